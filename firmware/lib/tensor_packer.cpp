// SPDX-License-Identifier: MIT
#include "tensor_packer.hpp"

#include <endian.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "error.hpp"
#include "half.hpp"
#include "quant.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint64_t kBlockElements = 1ULL << 20U;  // read at a time: 4 MiB
constexpr std::size_t kGroupRows = 16;
constexpr std::size_t kUnitBytes = 16;

/// A block of rows as F32 on its way to stored bytes.
class Packer {
   public:
    Packer(const TensorSpec& spec, const RowReader& rows, const BlockReader& blocks,
           const ByteSink& sink)
        : spec_(spec),
          rows_(rows),
          blocks_(blocks),
          sink_(sink),
          element_bytes_(spec.dtype == M4_DTYPE_F16 ? 2 : 4),
          columns_(spec.shape.back()) {
        row_count_ = 1;
        for (std::size_t i = 0; i + 1 < spec.shape.size(); ++i) {
            row_count_ *= spec.shape[i];
        }
    }

    void run() {
        const std::uint64_t step = spec_.layout == M4_LAYOUT_ROWS16 ? kGroupRows : 1;
        const std::uint64_t whole = kBlockElements / columns_ / step * step;
        const std::uint64_t block_rows = std::max(whole, step);
        for (std::uint64_t first = 0; first < row_count_; first += block_rows) {
            const std::uint64_t count = std::min(block_rows, row_count_ - first);
            stored_.clear();
            if (is_quantized(spec_.dtype)) {
                read_blocks(first, count);
                pack_tiles(count);
                sink_(stored_);
                continue;
            }
            values_.resize(count * columns_);
            rows_(first, count, values_);
            if (spec_.layout == M4_LAYOUT_ROWS16) {
                pack_groups(first, count);
            } else {
                pack_plain(first, count);
            }
            sink_(stored_);
        }
    }

   private:
    void pack_plain(std::uint64_t first, std::uint64_t count) {
        const std::uint64_t row_bytes = columns_ * element_bytes_;
        stored_.resize(count * row_bytes);
        for (std::uint64_t row = 0; row < count; ++row) {
            convert(first, row, stored_.data() + row * row_bytes);
        }
    }

    /// Places as image.h gives them for M4_LAYOUT_ROWS16; `first` is a
    /// multiple of 16, what no row or column fills stays zero.
    void pack_groups(std::uint64_t first, std::uint64_t count) {
        const std::uint64_t unit_elements = kUnitBytes / element_bytes_;
        const std::uint64_t units = (columns_ + unit_elements - 1) / unit_elements;
        const std::uint64_t groups = (count + kGroupRows - 1) / kGroupRows;
        stored_.assign(groups * units * kGroupRows * kUnitBytes, std::byte{});
        row_.assign(units * kUnitBytes, std::byte{});
        for (std::uint64_t row = 0; row < count; ++row) {
            convert(first, row, row_.data());
            std::byte* group = stored_.data() + row / kGroupRows * units * kGroupRows * kUnitBytes;
            for (std::uint64_t unit = 0; unit < units; ++unit) {
                std::memcpy(group + (unit * kGroupRows + row % kGroupRows) * kUnitBytes,
                            row_.data() + unit * kUnitBytes, kUnitBytes);
            }
        }
    }

    /// Rows [first, first + count) as quantised blocks: the source's own, or
    /// made of its values.
    void read_blocks(std::uint64_t first, std::uint64_t count) {
        quantized_.resize(count * columns_ / M4_IMAGE_QUANT_ELEMENTS);
        if (blocks_) {
            blocks_(first, count, quantized_);
            return;
        }
        values_.resize(count * columns_);
        rows_(first, count, values_);
        for (std::size_t i = 0; i < quantized_.size(); ++i) {
            const std::size_t at = i * M4_IMAGE_QUANT_ELEMENTS;
            const auto values =
                std::span<const float>(values_).subspan(at).first<M4_IMAGE_QUANT_ELEMENTS>();
            quantized_[i] = quantize(spec_.dtype, values);
            if (!std::all_of(values.begin(), values.end(),
                             [](float value) { return std::isfinite(value); }) ||
                !std::isfinite(from_half(quantized_[i].scale))) {
                throw Error("tensor '" + spec_.name + "'",
                            "row " + std::to_string(first + at / columns_) + ", column " +
                                std::to_string(at % columns_) +
                                ": values that no quantised block can hold");
            }
        }
    }

    /// Tiles of the blocks; what no row fills stays zero.
    void pack_tiles(std::uint64_t count) {
        const std::size_t tile_bytes = tile_units(spec_.dtype) * kUnitBytes;
        const std::uint64_t row_blocks = columns_ / M4_IMAGE_QUANT_ELEMENTS;
        const std::uint64_t groups = (count + kGroupRows - 1) / kGroupRows;
        stored_.assign(groups * row_blocks * tile_bytes, std::byte{});
        for (std::uint64_t row = 0; row < count; ++row) {
            for (std::uint64_t block = 0; block < row_blocks; ++block) {
                const std::uint64_t tile = row / kGroupRows * row_blocks + block;
                put_block(spec_.dtype, quantized_[row * row_blocks + block], row % kGroupRows,
                          std::span(stored_).subspan(tile * tile_bytes, tile_bytes));
            }
        }
    }

    /// Row `first` + `row` of the tensor as stored elements, side by side.
    void convert(std::uint64_t first, std::uint64_t row, std::byte* out) const {
        const float* in = values_.data() + row * columns_;
        for (std::uint64_t column = 0; column < columns_; ++column) {
            const float value = in[column];
            if (element_bytes_ == 4) {
                const std::uint32_t bits = htole32(std::bit_cast<std::uint32_t>(value));
                std::memcpy(out + column * 4, &bits, sizeof(bits));
                continue;
            }
            if (!fits_half(value)) {
                throw Error("tensor '" + spec_.name + "'",
                            "row " + std::to_string(first + row) + ", column " +
                                std::to_string(column) + ": " + std::to_string(value) +
                                " does not fit F16");
            }
            const std::uint16_t bits = htole16(to_half(value));
            std::memcpy(out + column * 2, &bits, sizeof(bits));
        }
    }

    const TensorSpec& spec_;
    const RowReader& rows_;
    const BlockReader& blocks_;
    const ByteSink& sink_;
    std::size_t element_bytes_;
    std::uint64_t columns_;
    std::uint64_t row_count_;
    std::vector<float> values_;
    std::vector<QuantBlock> quantized_;
    std::vector<std::byte> row_;
    std::vector<std::byte> stored_;
};

}  // namespace

void pack_tensor(const TensorSpec& spec, const RowReader& rows, const BlockReader& blocks,
                 const ByteSink& sink) {
    Packer(spec, rows, blocks, sink).run();
}

}  // namespace m4::firmware
