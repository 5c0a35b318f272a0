// SPDX-License-Identifier: MIT
// Vocabularies of byte-level BPE, to be decoded: which bytes an id stands for.
#include "byte_tokenizer.hpp"

#include <tokenizer_generated.h>

#include <map>
#include <string>
#include <string_view>

#include "byte_alphabet.hpp"
#include "checkpoint.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "lib/tokenizer.hpp"
#include "lib/tokenizer_utf8.hpp"
#include "mapped_file.hpp"
#include "whisper.hpp"

namespace m4::firmware {

namespace {

std::uint32_t read_id(const nlohmann::json& value, std::uint32_t vocabulary,
                      const std::string& place) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= vocabulary) {
        throw Error(place, "id " + value.dump() + " is not below the vocabulary, " +
                               std::to_string(vocabulary));
    }
    return value.get<std::uint32_t>();
}

/// "<|en|>" and its like have no text.
bool is_special(std::string_view token) {
    return token.size() > 4 && token.starts_with("<|") && token.ends_with("|>");
}

class Vocabulary {
   public:
    explicit Vocabulary(std::uint32_t count)
        : pieces_(count), kinds_(count, fb::PieceKind::control) {
        for (const auto& [byte, code] : byte_characters()) {
            byte_of_[utf8_of(code)] = static_cast<char>(byte);
        }
    }

    void add(const std::string& token, std::uint32_t id, const std::string& place) {
        if (is_special(token)) {
            return;
        }
        std::string bytes;
        for (std::string_view rest = token; !rest.empty();) {
            const auto byte = byte_of_.find(rest.substr(0, utf8_step(rest).size));
            if (byte == byte_of_.end()) {
                throw Error(place, "token " + shown(token) + " has a character that is no byte");
            }
            bytes += byte->second;
            rest.remove_prefix(byte->first.size());
        }
        if (kinds_[id] == fb::PieceKind::normal) {
            throw Error(place, "two tokens have id " + std::to_string(id));
        }
        pieces_[id] = std::move(bytes);
        kinds_[id] = fb::PieceKind::normal;
    }

    void hide(std::uint32_t id) {
        pieces_[id].clear();
        kinds_[id] = fb::PieceKind::control;
    }

    [[nodiscard]] std::vector<std::byte> write() const {
        flatbuffers::FlatBufferBuilder buffer(1U << 16);
        std::vector<std::uint8_t> text;
        std::vector<std::uint32_t> offsets = {0};
        for (const std::string& piece : pieces_) {
            text.insert(text.end(), piece.begin(), piece.end());
            offsets.push_back(static_cast<std::uint32_t>(text.size()));
        }
        const auto text_vector = buffer.CreateVector(text);
        const auto offset_vector = buffer.CreateVector(offsets);
        const auto kind_vector = buffer.CreateVector(kinds_);
        fb::TokenizerBuilder out(buffer);
        out.add_model(fb::TokenizerModel::byte_pieces);
        out.add_text(text_vector);
        out.add_offsets(offset_vector);
        out.add_kinds(kind_vector);
        fb::FinishTokenizerBuffer(buffer, out.Finish());
        const auto bytes = std::as_bytes(std::span(buffer.GetBufferPointer(), buffer.GetSize()));
        return {bytes.begin(), bytes.end()};
    }

   private:
    std::vector<std::string> pieces_;
    std::vector<fb::PieceKind> kinds_;
    std::map<std::string, char, std::less<>> byte_of_;
};

}  // namespace

std::optional<std::filesystem::path> find_byte_vocabulary(const std::filesystem::path& checkpoint) {
    for (const char* name : {"tokenizer.json", "vocab.json"}) {
        if (const auto file = beside(checkpoint, name); is_there(file)) {
            return file;
        }
    }
    return std::nullopt;
}

std::vector<std::byte> read_byte_vocabulary(const std::filesystem::path& file,
                                            std::uint32_t vocabulary) {
    const JsonObject root = JsonObject::read(file);
    const auto model = root.object_value("model");
    const auto inner = model ? model->object_value("vocab") : std::nullopt;
    if (model && !inner) {
        throw Error(model->key_place("vocab"), "is missing");
    }
    Vocabulary out(vocabulary);
    const JsonObject& tokens = inner ? *inner : root;
    for (const auto& [token, id] : tokens.json().items()) {
        out.add(token, read_id(id, vocabulary, tokens.key_place(token)), tokens.place());
    }
    if (const auto added = root.json().find("added_tokens"); added != root.json().end()) {
        const std::string place = root.key_place("added_tokens");
        if (!added->is_array()) {
            throw Error(place, "is no list");
        }
        for (const nlohmann::json& one : *added) {
            if (!one.is_object() || !one.contains("id")) {
                throw Error(place, one.dump() + " has no id");
            }
            out.hide(read_id(one.at("id"), vocabulary, place));
        }
    }
    std::vector<std::byte> section = out.write();
    static_cast<void>(Tokenizer(section, file.string() + ": tokeniser"));
    return section;
}

}  // namespace m4::firmware
