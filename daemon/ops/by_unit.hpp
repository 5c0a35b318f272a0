// SPDX-License-Identifier: MIT
#pragma once

#include "operator.hpp"

namespace m4::ops {

/// y, one lane a unit: `push` is what the kernel is told, before the count of
/// units. `tensor`: what it reads besides values, or null.
[[nodiscard]] std::unique_ptr<Operator> make_by_unit(const Context& context, const Places& places,
                                                     const TensorPlace* tensor,
                                                     std::vector<std::uint32_t> push);

}  // namespace m4::ops
