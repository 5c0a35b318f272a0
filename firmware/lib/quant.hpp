// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <array>
#include <cstdint>
#include <span>

namespace m4::firmware {

/// A block of a quantised row: value i is quants[i] * scale. Q8: -127 to 127
/// (-128 where a source has it); Q4: -8 to 7. The same numbers as GGUF's Q8_0
/// and Q4_0.
struct QuantBlock {
    std::uint16_t scale = 0;  ///< binary16
    std::array<std::int8_t, M4_IMAGE_QUANT_ELEMENTS> quants{};

    bool operator==(const QuantBlock&) const = default;
};

[[nodiscard]] constexpr bool is_quantized(m4_dtype dtype) {
    return dtype == M4_DTYPE_Q8 || dtype == M4_DTYPE_Q4;
}

/// The block nearest to these values, which are finite. Q8: the scale is the
/// largest magnitude over 127. Q4: the value of largest magnitude becomes -8.
/// A scale beyond binary16 is infinite: see fits_half().
[[nodiscard]] QuantBlock quantize(m4_dtype dtype,
                                  std::span<const float, M4_IMAGE_QUANT_ELEMENTS> values);

/// Exact: a product of at most 8 and 11 bits.
void dequantize(const QuantBlock& block, std::span<float, M4_IMAGE_QUANT_ELEMENTS> values);

/// Units of a tile (image.h, M4_LAYOUT_ROWS16) of a quantised type.
[[nodiscard]] constexpr std::size_t tile_units(m4_dtype dtype) {
    return dtype == M4_DTYPE_Q8 ? 34 : 18;
}

/// Put row `row` (0 to 15) of a tile, which was zeroed before.
void put_block(m4_dtype dtype, const QuantBlock& block, std::size_t row, std::span<std::byte> tile);

/// What put_block() put.
[[nodiscard]] QuantBlock get_block(m4_dtype dtype, std::size_t row,
                                   std::span<const std::byte> tile);

}  // namespace m4::firmware
