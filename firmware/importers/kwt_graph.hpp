// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint.hpp"
#include "lib/recipe.hpp"

namespace m4::firmware {

/// What a TensorFlow Lite graph of KWT (Berg et al., Interspeech 2021), of one head and
/// with its front end in it, says.
struct KwtModel {
    /// Its constants, under names that kwt.cpp asks for.
    std::shared_ptr<const Checkpoint> checkpoint;
    AudioRecipe recipe;
    /// By which the front end multiplies each column of the recipe's features.
    std::vector<float> column_scale;
    std::uint32_t width = 0;
    std::uint32_t inner_width = 0;
    std::uint32_t blocks = 0;
    std::uint32_t labels = 0;
    double eps = 0;
};

/// Follows the graph operator by operator; constants of the front end are held against
/// the formulas that the recipe names. Throws Error naming the operator that differs.
[[nodiscard]] KwtModel read_kwt(const std::filesystem::path& file);
/// The same of bytes, which must outlive the model (8-byte aligned).
[[nodiscard]] KwtModel read_kwt(std::span<const std::byte> bytes, const std::string& place);

}  // namespace m4::firmware
