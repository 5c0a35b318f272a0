// SPDX-License-Identifier: MIT
#pragma once

#include "operator.hpp"

namespace m4::ops {

/// y = f(a) or f(a, b), unit by unit over matrices of one shape.
[[nodiscard]] std::unique_ptr<Operator> make_elementwise(const Context& context,
                                                         const Places& places,
                                                         std::span<const std::uint32_t> constants);

}  // namespace m4::ops
