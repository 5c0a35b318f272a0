// SPDX-License-Identifier: MIT
#include "pixels.hpp"

#include <algorithm>
#include <string>

#include "bounds.hpp"

namespace m4::media {

namespace {

struct Color {
    std::uint8_t red;
    std::uint8_t green;
    std::uint8_t blue;
};

std::uint32_t pixel_bytes(Kind kind) {
    return kind == Kind::rgb8 ? 3 : kind == Kind::rgba8 ? 4 : 1;
}

/// Bytes of `rows` rows, the last one without what pads it.
std::uint64_t plane_bytes(std::uint32_t rows, std::uint32_t row_bytes, std::uint32_t stride) {
    return product(rows - 1, stride) + row_bytes;
}

std::uint8_t clip(int value) {
    return static_cast<std::uint8_t>(std::clamp(value, 0, 255));
}

/// BT.601, limited range: luma 16 to 235, chroma 16 to 240 around 128; in 1 / 65536.
Color from_yuv(int y, int u, int v) {
    constexpr int kHalf = 1 << 15;
    const int luma = 76'309 * (y - 16) + kHalf;  // 255 / 219
    u -= 128;
    v -= 128;
    return {clip((luma + 104'597 * v) >> 16), clip((luma - 25'675 * u - 53'279 * v) >> 16),
            clip((luma + 132'201 * u) >> 16)};
}

std::uint8_t luma_of(const Color& color) {
    return static_cast<std::uint8_t>(
        (color.red * 19'595 + color.green * 38'470 + color.blue * 7'471 + 0x8000) >> 16);
}

int at(const std::byte* from) {
    return std::to_integer<int>(*from);
}

}  // namespace

Pixels::Pixels(const Descriptor& media, std::span<const std::byte> file, std::uint32_t channels)
    : media_(media), channels_(channels) {
    check_range("width", media.width, 1, kMaxSide);
    check_range("height", media.height, 1, kMaxSide);
    const std::uint64_t pixels = product(media.width, media.height);
    if (pixels > kMaxPixels) {
        throw MediaError("width x height " + std::to_string(pixels) + " is more than " +
                         std::to_string(kMaxPixels) + " pixels");
    }
    std::uint32_t row_bytes = media.width * pixel_bytes(media.kind);
    const std::uint32_t pairs = (media.width + 1) / 2;
    if (media.kind == Kind::nv12) {
        row_bytes = 2 * pairs;
    }
    if (media.stride < row_bytes) {
        throw MediaError("stride " + std::to_string(media.stride) + " is less than a row, " +
                         std::to_string(row_bytes) + " bytes");
    }
    plane_ = bytes_at(file, "offset", media.offset,
                      plane_bytes(media.height, media.kind == Kind::nv12 ? media.width : row_bytes,
                                  media.stride));
    if (media.kind == Kind::nv12) {
        chroma_ = bytes_at(file, "chroma_offset", media.chroma_offset,
                           plane_bytes((media.height + 1) / 2, 2 * pairs, media.stride));
    }
}

void Pixels::read(std::uint32_t row, std::uint32_t first, std::span<std::uint8_t> out) const {
    const std::byte* line = plane_.data() + std::uint64_t{row} * media_.stride;
    const std::uint32_t step = pixel_bytes(media_.kind);
    const auto color_at = [&](std::uint32_t column) -> Color {
        const std::byte* pixel = line + std::size_t{column} * step;
        if (media_.kind == Kind::nv12) {
            const std::byte* pair = chroma_.data() + std::uint64_t{row / 2} * media_.stride +
                                    std::size_t{column / 2} * 2;
            return from_yuv(at(pixel), at(pair), at(pair + 1));
        }
        return {std::to_integer<std::uint8_t>(pixel[0]), std::to_integer<std::uint8_t>(pixel[1]),
                std::to_integer<std::uint8_t>(pixel[2])};
    };
    std::uint32_t column = first;
    for (std::size_t i = 0; i + channels_ <= out.size(); i += channels_, ++column) {
        if (media_.kind == Kind::gray8) {
            std::fill_n(out.begin() + static_cast<std::ptrdiff_t>(i), channels_,
                        std::to_integer<std::uint8_t>(line[column]));
            continue;
        }
        const Color color = color_at(column);
        if (channels_ == 1) {
            out[i] = luma_of(color);
        } else {
            out[i] = color.red;
            out[i + 1] = color.green;
            out[i + 2] = color.blue;
        }
    }
}

}  // namespace m4::media
