// SPDX-License-Identifier: MIT
#include "tokenizer_section.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "gguf.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "lib/tokenizer.hpp"
#include "lib/tokenizer_pieces.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint64_t kPiecesMost = 1U << 22;  // bounds what a config can ask for
constexpr const char* kModelFile = "tokenizer.model";
constexpr const char* kConfigFile = "tokenizer_config.json";

std::uint8_t code(fb::PieceKind kind) {
    return static_cast<std::uint8_t>(kind);
}

/// The id a key names; where it is absent, what SentencePiece would take.
std::int32_t read_id(const GgufFile& file, const char* key, std::int32_t otherwise) {
    const auto id = file.unsigned_value(key);
    if (!id) {
        return otherwise;
    }
    if (*id > std::numeric_limits<std::int32_t>::max()) {
        throw Error(file.key_place(key), std::to_string(*id) + " is no token");
    }
    return static_cast<std::int32_t>(*id);
}

/// BOS and EOS must be control pieces: they are never text. Chat models keep
/// their end marker as a user-defined piece; that one is promoted.
void make_control(TokenizerSource& source, std::int32_t id) {
    if (id >= 0 && static_cast<std::size_t>(id) < source.pieces.size()) {
        auto& kind = source.pieces[static_cast<std::size_t>(id)].kind;
        if (kind == code(fb::PieceKind::user_defined)) {
            kind = code(fb::PieceKind::control);
        }
    }
}

/// Tokens that tokenizer_config.json adds behind the model's own pieces.
void add_configured_tokens(const JsonObject& config, TokenizerSource& source) {
    const auto added = config.object_value("added_tokens_decoder");
    if (!added) {
        return;
    }
    for (const auto& [key, value] : added->json().items()) {
        const bool number = !key.empty() && key.size() <= 8 &&
                            key.find_first_not_of("0123456789") == std::string::npos;
        if (!number || !value.is_object()) {
            throw Error(added->key_place(key), "is not a token id with its description");
        }
        const auto id = static_cast<std::size_t>(std::stoul(key));
        if (id < source.pieces.size() && !source.pieces[id].text.empty()) {
            continue;  // describes a piece of the model, which says the same itself
        }
        const JsonObject token(value, added->key_place(key));
        const auto text = token.string_value("content");
        if (!text || text->empty() || id >= kPiecesMost) {
            throw Error(token.place(), "has no usable content");
        }
        if (id >= source.pieces.size()) {
            source.pieces.resize(id + 1, {"", 0.0F, code(fb::PieceKind::unused)});
        }
        const bool special = token.bool_value("special").value_or(false);
        source.pieces[id] = {*text, 0.0F,
                             code(special ? fb::PieceKind::control : fb::PieceKind::user_defined)};
    }
}

/// Ids in the order that PieceTable asks for.
std::vector<std::uint32_t> sorted_ids(const std::vector<TokenizerSource::Piece>& pieces) {
    std::vector<std::uint32_t> ids(pieces.size());
    std::iota(ids.begin(), ids.end(), 0U);
    const auto key = [&pieces](std::uint32_t id) {
        const auto& piece = pieces[id];
        return std::make_tuple(std::string_view(piece.text),
                               !is_matchable(static_cast<fb::PieceKind>(piece.kind)), id);
    };
    std::sort(ids.begin(), ids.end(), [&key](auto a, auto b) { return key(a) < key(b); });
    return ids;
}

/// The 256 byte pieces by value; empty where the model has none of them.
std::vector<std::uint32_t> byte_ids(const std::vector<TokenizerSource::Piece>& pieces,
                                    const std::string& place) {
    std::array<std::optional<std::uint32_t>, 256> found;
    bool any = false;
    for (std::uint32_t id = 0; id < pieces.size(); ++id) {
        if (pieces[id].kind != code(fb::PieceKind::byte)) {
            continue;
        }
        const auto value = byte_of_piece(pieces[id].text);
        if (!value || found.at(*value)) {
            throw Error(place, "byte piece " + std::to_string(id) + ", " + shown(pieces[id].text) +
                                   ", is no byte or a second one");
        }
        found.at(*value) = id;
        any = true;
    }
    std::vector<std::uint32_t> ids;
    for (std::size_t value = 0; any && value < found.size(); ++value) {
        if (!found.at(value)) {
            throw Error(place, "has byte pieces, but none for byte " + std::to_string(value));
        }
        ids.push_back(*found.at(value));
    }
    return ids;
}

}  // namespace

std::int32_t TokenizerSource::find(std::uint8_t kind, std::string_view text) const {
    for (std::size_t id = 0; id < pieces.size(); ++id) {
        if (pieces[id].kind == kind && (text.empty() || pieces[id].text == text)) {
            return static_cast<std::int32_t>(id);
        }
    }
    return -1;
}

TokenizerSource read_gguf_tokenizer(const GgufFile& file) {
    const auto model = file.string_value("tokenizer.ggml.model");
    if (!model) {
        throw Error(file.key_place("tokenizer.ggml.model"), "is missing");
    }
    if (*model != "llama") {
        throw Error(file.key_place("tokenizer.ggml.model"),
                    "tokeniser " + shown(*model) + " is not supported; supported: llama");
    }
    const auto tokens = file.string_array("tokenizer.ggml.tokens");
    const auto scores = file.float_array("tokenizer.ggml.scores");
    const auto kinds = file.integer_array("tokenizer.ggml.token_type");
    if (!tokens || !scores || !kinds || scores->size() != tokens->size() ||
        kinds->size() != tokens->size()) {
        throw Error(file.place(),
                    "tokenizer.ggml.tokens, scores and token_type are missing or of different "
                    "lengths");
    }
    if (file.has("tokenizer.ggml.precompiled_charsmap")) {
        throw Error(file.key_place("tokenizer.ggml.precompiled_charsmap"),
                    "a normalisation map is not supported");
    }
    TokenizerSource source;
    for (std::size_t id = 0; id < tokens->size(); ++id) {
        const auto kind = (*kinds)[id];
        if (kind < code(fb::PieceKind::normal) || kind > code(fb::PieceKind::byte)) {
            throw Error(file.key_place("tokenizer.ggml.token_type"),
                        "token " + std::to_string(id) + " has type " + std::to_string(kind));
        }
        source.pieces.push_back(
            {std::string((*tokens)[id]), (*scores)[id], static_cast<std::uint8_t>(kind)});
    }
    source.bos_id =
        read_id(file, "tokenizer.ggml.bos_token_id", source.find(TokenizerSource::kControl, "<s>"));
    source.eos_id = read_id(file, "tokenizer.ggml.eos_token_id",
                            source.find(TokenizerSource::kControl, "</s>"));
    source.unknown_id =
        read_id(file, "tokenizer.ggml.unknown_token_id", source.find(TokenizerSource::kUnknown));
    const bool has_bos = source.bos_id >= 0;
    source.add_bos = file.bool_value("tokenizer.ggml.add_bos_token").value_or(has_bos);
    source.add_eos = file.bool_value("tokenizer.ggml.add_eos_token").value_or(false);
    source.add_space_prefix = file.bool_value("tokenizer.ggml.add_space_prefix").value_or(true);
    source.remove_extra_spaces =
        file.bool_value("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
    return source;
}

TokenizerSource read_folder_tokenizer(const std::filesystem::path& folder) {
    const auto model = folder / kModelFile;
    if (!is_there(model)) {
        throw Error(folder.string(), std::string("has no ") + kModelFile +
                                         " (SentencePiece), which the import needs");
    }
    auto source = read_sentencepiece_model(model);
    source.add_bos = source.bos_id >= 0;
    if (is_there(folder / kConfigFile)) {
        const auto config = JsonObject::read(folder / kConfigFile);
        source.add_bos = config.bool_value("add_bos_token").value_or(source.add_bos);
        source.add_eos = config.bool_value("add_eos_token").value_or(false);
        add_configured_tokens(config, source);
    }
    return source;
}

std::vector<std::byte> build_tokenizer_section(TokenizerSource source, std::uint64_t vocabulary,
                                               const std::string& place) {
    if (source.pieces.size() > vocabulary || vocabulary > kPiecesMost) {
        throw Error(place, "tokeniser has " + std::to_string(source.pieces.size()) +
                               " pieces for a vocabulary of " + std::to_string(vocabulary));
    }
    source.pieces.resize(vocabulary, {"", 0.0F, code(fb::PieceKind::unused)});
    make_control(source, source.bos_id);
    make_control(source, source.eos_id);

    std::vector<std::uint8_t> text;
    std::vector<std::uint32_t> offsets{0};
    std::vector<float> scores;
    std::vector<std::uint8_t> kinds;
    for (const auto& piece : source.pieces) {
        text.insert(text.end(), piece.text.begin(), piece.text.end());
        if (text.size() > std::numeric_limits<std::uint32_t>::max() / 4) {
            throw Error(place, "tokeniser has more than 1 GiB of text");
        }
        offsets.push_back(static_cast<std::uint32_t>(text.size()));
        scores.push_back(piece.score);
        kinds.push_back(piece.kind);
    }
    flatbuffers::FlatBufferBuilder builder;
    const auto text_at = builder.CreateVector(text);
    const auto offsets_at = builder.CreateVector(offsets);
    const auto scores_at = builder.CreateVector(scores);
    const auto kinds_at =
        builder.CreateVector(reinterpret_cast<const fb::PieceKind*>(kinds.data()), kinds.size());
    const auto sorted_at = builder.CreateVector(sorted_ids(source.pieces));
    const auto bytes_at = builder.CreateVector(byte_ids(source.pieces, place));
    fb::TokenizerBuilder table(builder);
    table.add_model(fb::TokenizerModel::sentencepiece_bpe);
    table.add_text(text_at);
    table.add_offsets(offsets_at);
    table.add_scores(scores_at);
    table.add_kinds(kinds_at);
    table.add_sorted(sorted_at);
    table.add_byte_ids(bytes_at);
    table.add_unknown_id(source.unknown_id);
    table.add_bos_id(source.bos_id);
    table.add_eos_id(source.eos_id);
    table.add_add_bos(source.add_bos);
    table.add_add_eos(source.add_eos);
    table.add_add_space_prefix(source.add_space_prefix);
    table.add_remove_extra_spaces(source.remove_extra_spaces);
    fb::FinishTokenizerBuffer(builder, table.Finish());
    const auto bytes = std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize()));
    std::vector<std::byte> section(bytes.begin(), bytes.end());
    static_cast<void>(Tokenizer(section, place + ": tokeniser"));
    return section;
}

}  // namespace m4::firmware
