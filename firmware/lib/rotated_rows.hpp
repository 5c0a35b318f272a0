// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <cstdint>

namespace m4::firmware {

/// Where row `row` of a projection in order `want` lies in one in order
/// `have`; `head_dim` rows are a head. NONE and equal orders change nothing.
[[nodiscard]] std::uint64_t source_row(std::uint64_t row, std::uint32_t head_dim, m4_row_order want,
                                       m4_row_order have);

}  // namespace m4::firmware
