// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "lib/recipe.hpp"

namespace m4::tools {

/// A recipe in a line; empty: there is none.
[[nodiscard]] std::string recipe_text(const firmware::Recipe& recipe);

/// All its numbers, by the names of lib/recipe.hpp, and "kind"; null: there is none.
[[nodiscard]] nlohmann::ordered_json recipe_json(const firmware::Recipe& recipe);

}  // namespace m4::tools
