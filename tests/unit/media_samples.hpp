// SPDX-License-Identifier: MIT
// Descriptors and bytes for the tests of daemon/media.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "media/prepare.hpp"

namespace m4::test {

using Bytes = std::vector<std::byte>;

template <typename T>
Bytes bytes_of(const std::vector<T>& values) {
    Bytes bytes(values.size() * sizeof(T));
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

/// Rows without padding, from the file's begin.
inline media::Descriptor image_of(media::Kind kind, std::uint32_t width, std::uint32_t height) {
    media::Descriptor media;
    media.kind = kind;
    media.width = width;
    media.height = height;
    media.stride = width * (kind == media::Kind::rgb8 ? 3 : kind == media::Kind::rgba8 ? 4 : 1);
    return media;
}

inline media::Descriptor rows_of(media::Kind kind, std::uint32_t channels, std::uint64_t samples,
                                 float rate_hz = 0) {
    media::Descriptor media;
    media.kind = kind;
    media.channels = channels;
    media.samples = samples;
    media.rate_hz = rate_hz;
    return media;
}

inline media::Prepared prepared(const firmware::Recipe& recipe, const media::Descriptor& media,
                                const Bytes& file) {
    return media::prepare(recipe, firmware::shape_of(recipe), media, file);
}

/// Bytes as they are: the features are p / 255.
inline firmware::ImageRecipe plain_image(std::uint32_t channels, std::uint32_t short_side,
                                         std::uint32_t height, std::uint32_t width) {
    return {.channels = channels,
            .short_side = short_side,
            .height = height,
            .width = width,
            .mean = std::vector<float>(channels, 0),
            .std = std::vector<float>(channels, 1)};
}

/// Why it is refused; "accepted" if it is not.
inline std::string refusal_of(const firmware::Recipe& recipe, firmware::FeatureShape shape,
                              const media::Descriptor& media, const Bytes& file) {
    try {
        (void)media::prepare(recipe, shape, media, file);
        return "accepted";
    } catch (const media::MediaError& error) {
        return error.what();
    }
}

inline std::string refusal_of(const firmware::Recipe& recipe, const media::Descriptor& media,
                              const Bytes& file) {
    return refusal_of(recipe, firmware::shape_of(recipe), media, file);
}

}  // namespace m4::test
