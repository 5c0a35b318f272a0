// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace m4::firmware {

/// A byte-level vocabulary beside a checkpoint's file: STEM.NAME or NAME, where NAME is
/// tokenizer.json or vocab.json, the first of them that is there.
[[nodiscard]] std::optional<std::filesystem::path> find_byte_vocabulary(
    const std::filesystem::path& checkpoint);

/// The m4.fb.Tokenizer section that gives the text of ids below `vocabulary`, and only
/// that. Ids that the file does not name, and those it adds for itself, have no text.
/// Throws Error naming the file and the token.
[[nodiscard]] std::vector<std::byte> read_byte_vocabulary(const std::filesystem::path& file,
                                                          std::uint32_t vocabulary);

}  // namespace m4::firmware
