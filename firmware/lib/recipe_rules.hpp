// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "recipe.hpp"

namespace m4::firmware {

/// What is wrong with a recipe; empty: nothing. One that is accepted is safe to
/// follow: its sizes bound what is computed for an input.
[[nodiscard]] std::string recipe_fault(const Recipe& recipe);

}  // namespace m4::firmware
