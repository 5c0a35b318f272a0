// SPDX-License-Identifier: MIT
#pragma once

#include "operator.hpp"

namespace m4::ops {

/// y, one workgroup a row of x, the first input: the norms. `tensors`: what the
/// kernel reads besides, in its sets 1 and 2. It is told where x and y are, the
/// units of a row, and `push`.
[[nodiscard]] std::unique_ptr<Operator> make_by_row(const Context& context, const Places& places,
                                                    std::span<const TensorPlace* const> tensors,
                                                    std::span<const std::uint32_t> push);

}  // namespace m4::ops
