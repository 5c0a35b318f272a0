// SPDX-License-Identifier: MIT
#pragma once

#include "program.hpp"

namespace m4::firmware {

/// The value at a port of any of the part's programs; null: none has it.
[[nodiscard]] const Value* port_value(const Part& part, Role role);

/// Of a decoder, the program that takes its encoder's rows.
[[nodiscard]] bool prepares(const Part& part, const Program& program);

/// Rows an item (or 1 of what has no items) and columns of the matrix at a port; {0, 0}
/// where there is none.
[[nodiscard]] FeatureShape port_shape(const Part& part, Role role);

}  // namespace m4::firmware
