// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "image.hpp"
#include "quant.hpp"

namespace m4::firmware {

/// What pack_tensor() packed, row by row: `stored` are the bytes of a matrix
/// in ROWS16. Elements are little-endian and side by side.

/// Bytes of a row of F32 or F16 without its padding.
[[nodiscard]] std::uint64_t row_bytes(const Tensor& tensor);
/// Row `row` of F32 or F16; `out` has row_bytes().
void unpack_row(const Tensor& tensor, std::span<const std::byte> stored, std::uint64_t row,
                std::span<std::byte> out);

/// Blocks of a row of Q8 or Q4.
[[nodiscard]] std::uint64_t row_blocks(const Tensor& tensor);
/// Row `row` of Q8 or Q4; `out` has row_blocks().
void unpack_blocks(const Tensor& tensor, std::span<const std::byte> stored, std::uint64_t row,
                   std::span<QuantBlock> out);

}  // namespace m4::firmware
