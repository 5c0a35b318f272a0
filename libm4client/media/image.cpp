// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>

#include "codecs.hpp"
#include "lib/error.hpp"
#include "lib/small_file.hpp"

namespace m4::client_media {

namespace {

constexpr std::array<std::uint8_t, 8> kPng = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr std::array<std::uint8_t, 3> kJpeg = {0xff, 0xd8, 0xff};

bool begins_with(std::span<const std::byte> file, std::span<const std::uint8_t> magic) {
    return file.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), file.begin(),
                      [](std::uint8_t a, std::byte b) { return std::byte{a} == b; });
}

}  // namespace

Media image_of(Kind kind, std::uint64_t width, std::uint64_t height, const std::string& place) {
    if (width == 0 || height == 0 || width > kMaxSide || height > kMaxSide ||
        width * height > kMaxPixels) {
        throw TooLarge(place, "an image of " + std::to_string(width) + " x " +
                                  std::to_string(height) + " pixels; sides are 1 to " +
                                  std::to_string(kMaxSide) + ", pixels at most " +
                                  std::to_string(kMaxPixels));
    }
    Media media;
    media.kind = kind;
    media.width = static_cast<std::uint32_t>(width);
    media.height = static_cast<std::uint32_t>(height);
    media.stride = media.width * (kind == Kind::rgb8 ? 3 : 1);
    return media;
}

Media decode_image(std::span<const std::byte> file, const std::string& place) {
    if (begins_with(file, kPng)) {
        return decode_png(file, place);
    }
    if (begins_with(file, kJpeg)) {
        return decode_jpeg(file, place);
    }
    throw firmware::Error(place, "is neither a PNG nor a JPEG image");
}

Media load_image(const std::string& path) {
    return decode_image(firmware::read_small_file(path, kMaxImageFile), path);
}

}  // namespace m4::client_media
