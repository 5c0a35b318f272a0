// SPDX-License-Identifier: MIT
#include "rotated_rows.hpp"

namespace m4::firmware {

std::uint64_t source_row(std::uint64_t row, std::uint32_t head_dim, m4_row_order want,
                         m4_row_order have) {
    if (want == have || want == M4_ROW_ORDER_NONE || have == M4_ROW_ORDER_NONE) {
        return row;
    }
    const std::uint64_t half = head_dim / 2;
    const std::uint64_t inside = row % head_dim;
    const bool interleaved = want == M4_ROW_ORDER_INTERLEAVED;
    const std::uint64_t pair = interleaved ? inside / 2 : inside % half;
    const std::uint64_t second = interleaved ? inside % 2 : inside / half;
    const std::uint64_t source =
        have == M4_ROW_ORDER_INTERLEAVED ? 2 * pair + second : pair + second * half;
    return row - inside + source;
}

}  // namespace m4::firmware
