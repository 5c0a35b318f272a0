// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace m4::firmware {

class GgufFile;

/// A tokeniser on its way from a source into a section. Kinds are the codes
/// that SentencePiece, GGUF and m4.fb.PieceKind share (1 normal .. 6 byte).
struct TokenizerSource {
    struct Piece {
        std::string text;
        float score = 0.0F;
        std::uint8_t kind = 1;
    };
    static constexpr std::uint8_t kUnknown = 2;
    static constexpr std::uint8_t kControl = 3;

    std::vector<Piece> pieces;
    std::int32_t unknown_id = -1;
    std::int32_t bos_id = -1;
    std::int32_t eos_id = -1;
    bool add_bos = true;
    bool add_eos = false;
    bool add_space_prefix = true;
    bool remove_extra_spaces = false;

    /// The first piece of a kind (with that text, unless it is empty), or -1.
    [[nodiscard]] std::int32_t find(std::uint8_t kind, std::string_view text = {}) const;
};

/// From the metadata of a GGUF file (tokenizer.ggml.*). Throws Error naming
/// the file and key; a model other than "llama" is refused by name.
[[nodiscard]] TokenizerSource read_gguf_tokenizer(const GgufFile& file);

/// From a Hugging Face folder: tokenizer.model, and of tokenizer_config.json,
/// where there is one, add_bos_token, add_eos_token and the tokens added past
/// the model's pieces. Throws Error naming the file.
[[nodiscard]] TokenizerSource read_folder_tokenizer(const std::filesystem::path& folder);

/// From a serialised SentencePiece model (BPE). Throws Error naming `path`;
/// what the runtime does not do (unigram, a normalisation map, ...) is refused
/// by name.
[[nodiscard]] TokenizerSource read_sentencepiece_model(const std::filesystem::path& path);

/// The m4.fb.Tokenizer section with `vocabulary` ids: a matrix often has more
/// rows than the model has pieces, and the ids between become unused pieces
/// without text. The result has passed the runtime's own checks. Throws
/// Error(place) where there are more pieces than ids, or a piece is wrong.
[[nodiscard]] std::vector<std::byte> build_tokenizer_section(TokenizerSource source,
                                                             std::uint64_t vocabulary,
                                                             const std::string& place);

}  // namespace m4::firmware
