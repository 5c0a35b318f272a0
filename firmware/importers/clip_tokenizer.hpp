// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace m4::firmware {

/// CLIP's tokeniser in a folder: tokenizer.json, merges.txt, or openai's
/// bpe_simple_vocab_16e6.txt, packed by gzip or not; the first of them that is there.
[[nodiscard]] std::optional<std::filesystem::path> find_clip_tokenizer(
    const std::filesystem::path& folder);

/// The m4.fb.Tokenizer section of such a file, or of a folder that has one, for an
/// embedding of `vocabulary` rows. Ids are those of tokenizer.json, or of vocab.json
/// beside merges.txt; else they follow from the order of the merges. It has passed the
/// runtime's own checks. Throws Error naming the file and the merge or token.
[[nodiscard]] std::vector<std::byte> read_clip_tokenizer(const std::filesystem::path& from,
                                                         std::uint64_t vocabulary);

}  // namespace m4::firmware
