// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "plain_whisper.hpp"

namespace m4::fuzz {

/// Of the Whisper whose files beside the weights are read.
[[nodiscard]] inline test::WhisperDims whisper_dims() {
    return {.width = 8,
            .heads = 1,
            .layers = 1,
            .inner = 8,
            .bins = 4,
            .rows = 6,
            .context = 10,
            .vocabulary = 50};
}

/// Reads bytes as m4fw pack does: the first says which kind of file the others are.
/// Aborts where that ends by anything but success or an Error that names its place, or
/// where a tokeniser that was accepted gives an id out of its vocabulary. Returns whether
/// they were accepted.
bool check_importer(std::span<const std::uint8_t> bytes);

/// Whether a first byte says that the others are a safetensors file.
[[nodiscard]] bool is_safetensors(std::uint8_t first);

/// A small file of each kind, which is accepted.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> importer_seeds();

/// A PEFT folder's two files, which belong to each other.
[[nodiscard]] std::string peft_config();
[[nodiscard]] std::string peft_weights();

}  // namespace m4::fuzz
