// SPDX-License-Identifier: MIT
// What lies beside an encoder's weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "import.hpp"
#include "json_file.hpp"
#include "lib/recipe.hpp"

namespace m4::firmware {

/// NAME.config.json, or config.json, beside NAME.safetensors; an empty object where there
/// is neither.
[[nodiscard]] JsonObject config_beside(const std::filesystem::path& file);

/// An unsigned number of 1 to 2^20, or `otherwise`. Throws Error naming the key.
[[nodiscard]] std::uint32_t size_value(const JsonObject& config, const std::string& key,
                                       std::uint32_t otherwise);

/// id2label of a configuration; none where it has none, or other than `count`
/// ("LABEL_0" and its like, which say nothing, are none either). Throws Error.
[[nodiscard]] std::vector<std::string> labels_of(const JsonObject& config, std::uint64_t count);

/// preprocessor_config.json beside `file` for pictures of `side` pixels; `otherwise` where
/// it is not there. Throws Error naming the key that cannot be followed.
[[nodiscard]] ImageRecipe image_recipe_beside(const std::filesystem::path& file, std::uint32_t side,
                                              ImageRecipe otherwise);

/// The section of a CLIP tokeniser for `vocabulary` ids: options.tokenizer, or what lies
/// beside `file`; empty where there is none.
[[nodiscard]] std::vector<std::byte> clip_tokenizer_beside(const std::filesystem::path& file,
                                                           const ImportOptions& options,
                                                           std::uint64_t vocabulary);

/// Side of a square of so many; throws Error(place) where it is none.
[[nodiscard]] std::uint32_t side_of(std::uint64_t square, const std::string& place);

}  // namespace m4::firmware
