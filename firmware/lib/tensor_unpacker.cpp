// SPDX-License-Identifier: MIT
#include "tensor_unpacker.hpp"

#include <algorithm>
#include <cstring>

namespace m4::firmware {

namespace {

constexpr std::uint64_t kGroupRows = 16;
constexpr std::uint64_t kUnitBytes = 16;

}  // namespace

std::uint64_t row_bytes(const Tensor& tensor) {
    return tensor.shape[1] * (tensor.dtype == M4_DTYPE_F16 ? 2 : 4);
}

void unpack_row(const Tensor& tensor, std::span<const std::byte> stored, std::uint64_t row,
                std::span<std::byte> out) {
    const std::uint64_t units = (row_bytes(tensor) + kUnitBytes - 1) / kUnitBytes;
    std::uint64_t unit = row / kGroupRows * units * kGroupRows + row % kGroupRows;
    while (!out.empty()) {
        const std::uint64_t count = std::min<std::uint64_t>(out.size(), kUnitBytes);
        std::memcpy(out.data(), stored.subspan(unit * kUnitBytes, count).data(), count);
        out = out.subspan(count);
        unit += kGroupRows;
    }
}

std::uint64_t row_blocks(const Tensor& tensor) {
    return tensor.shape[1] / M4_IMAGE_QUANT_ELEMENTS;
}

void unpack_blocks(const Tensor& tensor, std::span<const std::byte> stored, std::uint64_t row,
                   std::span<QuantBlock> out) {
    const std::uint64_t tile_bytes = tile_units(tensor.dtype) * kUnitBytes;
    const std::uint64_t first = row / kGroupRows * row_blocks(tensor);
    for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = get_block(tensor.dtype, row % kGroupRows,
                           stored.subspan((first + i) * tile_bytes, tile_bytes));
    }
}

}  // namespace m4::firmware
