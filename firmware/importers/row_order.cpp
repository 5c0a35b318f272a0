// SPDX-License-Identifier: MIT
#include "row_order.hpp"

#include <utility>

namespace m4::firmware {

RowReader reordered_rows(std::shared_ptr<const Checkpoint> checkpoint, const SourceTensor& tensor,
                         std::uint32_t head_dim, m4_row_order want, m4_row_order have) {
    const bool vector = tensor.shape.size() == 1;
    const std::uint64_t columns = vector ? 1 : tensor.shape.back();
    const bool straight = want == have || head_dim == 0;
    return [checkpoint = std::move(checkpoint), from = &tensor, head_dim, want, have, columns,
            straight](std::uint64_t first, std::uint64_t /*count*/, std::span<float> out) {
        // A vector comes as one row: first is 0, its elements are the rows.
        if (straight) {
            from->read(first * columns, out);
            return;
        }
        for (std::uint64_t i = 0; i < out.size() / columns; ++i) {
            const auto row = source_row(first + i, head_dim, want, have);
            from->read(row * columns, out.subspan(i * columns, columns));
        }
    };
}

namespace {

std::optional<m4_dtype> quantized_as(SourceType type) {
    switch (type) {
        case SourceType::q8_0:
            return M4_DTYPE_Q8;
        case SourceType::q4_0:
            return M4_DTYPE_Q4;
        default:
            return std::nullopt;
    }
}

}  // namespace

BlockReader reordered_blocks(std::shared_ptr<const Checkpoint> checkpoint,
                             const SourceTensor& tensor, std::uint32_t head_dim, m4_row_order want,
                             m4_row_order have, m4_dtype stored) {
    if (quantized_as(tensor.type) != stored) {
        return {};
    }
    return [checkpoint = std::move(checkpoint), from = &tensor, head_dim, want, have](
               std::uint64_t first, std::uint64_t count, std::span<QuantBlock> out) {
        const std::size_t row_blocks = out.size() / count;
        for (std::uint64_t i = 0; i < count; ++i) {
            const auto row =
                head_dim == 0 ? first + i : source_row(first + i, head_dim, want, have);
            from->read_blocks(row * row_blocks, out.subspan(i * row_blocks, row_blocks));
        }
    };
}

m4_dtype stored_type(const SourceTensor& tensor, std::optional<m4_dtype> wanted) {
    const m4_dtype type = wanted.value_or(quantized_as(tensor.type).value_or(M4_DTYPE_F16));
    const bool whole_blocks = tensor.shape.back() % M4_IMAGE_QUANT_ELEMENTS == 0;
    return is_quantized(type) && !whole_blocks ? M4_DTYPE_F16 : type;
}

}  // namespace m4::firmware
