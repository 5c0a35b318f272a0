// SPDX-License-Identifier: MIT
#include "tensor_packer.hpp"

#include <endian.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "error.hpp"
#include "half.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint64_t kBlockElements = 1ULL << 20U;  // read at a time: 4 MiB
constexpr std::size_t kGroupRows = 16;
constexpr std::size_t kUnitBytes = 16;

/// A block of rows as F32 on its way to stored bytes.
class Packer {
   public:
    Packer(const TensorSpec& spec, const RowReader& rows, const ByteSink& sink)
        : spec_(spec),
          rows_(rows),
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
            values_.resize(count * columns_);
            rows_(first, count, values_);
            stored_.clear();
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
    const ByteSink& sink_;
    std::size_t element_bytes_;
    std::uint64_t columns_;
    std::uint64_t row_count_;
    std::vector<float> values_;
    std::vector<std::byte> row_;
    std::vector<std::byte> stored_;
};

}  // namespace

void pack_tensor(const TensorSpec& spec, const RowReader& rows, const ByteSink& sink) {
    Packer(spec, rows, sink).run();
}

}  // namespace m4::firmware
