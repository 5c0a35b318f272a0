// SPDX-License-Identifier: MIT
#include "quant.hpp"

#include <endian.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "half.hpp"

namespace m4::firmware {

namespace {

constexpr std::size_t kUnitBytes = 16;
constexpr std::size_t kGroupRows = 16;
constexpr int kQ4Zero = 8;

/// Byte of a unit that holds element `e`, counted from `per_byte` elements a
/// byte: element e lies in word e % 4, in its (e / 4)-th place.
constexpr std::size_t byte_of(std::size_t e, std::size_t per_byte) {
    return e % 4 * 4 + e / 4 / per_byte;
}

float of_largest_magnitude(std::span<const float> values) {
    return *std::max_element(values.begin(), values.end(),
                             [](float a, float b) { return std::abs(a) < std::abs(b); });
}

std::byte* scale_of(std::size_t row, std::span<std::byte> tile) {
    return tile.data() + tile.size() - 2 * kGroupRows + 2 * row;
}

}  // namespace

QuantBlock quantize(m4_dtype dtype, std::span<const float, M4_IMAGE_QUANT_ELEMENTS> values) {
    const bool q8 = dtype == M4_DTYPE_Q8;
    const float largest = of_largest_magnitude(values);
    QuantBlock block;
    block.scale = to_half(q8 ? std::abs(largest) / 127.0F : largest / -8.0F);
    // By the scale as it is stored, so that its rounding is not lost twice.
    const float scale = from_half(block.scale);
    if (scale == 0.0F || !std::isfinite(scale)) {
        return block;
    }
    const float low = q8 ? -127.0F : -8.0F;
    const float high = q8 ? 127.0F : 7.0F;
    std::transform(values.begin(), values.end(), block.quants.begin(), [&](float value) {
        return static_cast<std::int8_t>(std::clamp(std::nearbyint(value / scale), low, high));
    });
    return block;
}

void dequantize(const QuantBlock& block, std::span<float, M4_IMAGE_QUANT_ELEMENTS> values) {
    const float scale = from_half(block.scale);
    std::transform(block.quants.begin(), block.quants.end(), values.begin(),
                   [&](std::int8_t quant) { return static_cast<float>(quant) * scale; });
}

void put_block(m4_dtype dtype, const QuantBlock& block, std::size_t row,
               std::span<std::byte> tile) {
    const bool q8 = dtype == M4_DTYPE_Q8;
    std::byte* const unit = tile.data() + row * kUnitBytes;
    for (std::size_t e = 0; e < block.quants.size(); ++e) {
        if (q8) {
            unit[e / 16 * kGroupRows * kUnitBytes + byte_of(e % 16, 1)] =
                static_cast<std::byte>(block.quants[e]);
        } else {
            const auto nibble = static_cast<unsigned>(block.quants[e] + kQ4Zero);
            unit[byte_of(e, 2)] |= static_cast<std::byte>(nibble << (e / 4 % 2 * 4));
        }
    }
    const std::uint16_t scale = htole16(block.scale);
    std::memcpy(scale_of(row, tile), &scale, sizeof(scale));
}

QuantBlock get_block(m4_dtype dtype, std::size_t row, std::span<const std::byte> tile) {
    const bool q8 = dtype == M4_DTYPE_Q8;
    const std::byte* const unit = tile.data() + row * kUnitBytes;
    QuantBlock block;
    for (std::size_t e = 0; e < block.quants.size(); ++e) {
        if (q8) {
            block.quants[e] = static_cast<std::int8_t>(
                unit[e / 16 * kGroupRows * kUnitBytes + byte_of(e % 16, 1)]);
        } else {
            const auto byte = std::to_integer<unsigned>(unit[byte_of(e, 2)]);
            block.quants[e] =
                static_cast<std::int8_t>(static_cast<int>(byte >> (e / 4 % 2 * 4) & 15U) - kQ4Zero);
        }
    }
    std::memcpy(&block.scale, tile.data() + tile.size() - 2 * kGroupRows + 2 * row,
                sizeof(block.scale));
    block.scale = le16toh(block.scale);
    return block;
}

}  // namespace m4::firmware
