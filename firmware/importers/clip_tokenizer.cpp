// SPDX-License-Identifier: MIT
// Pieces are written as text in these files: each byte as a character that can be
// seen, and "</w>" behind a piece that ends a word.
#include "clip_tokenizer.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "byte_alphabet.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "lib/tokenizer.hpp"
#include "lib/tokenizer_merges.hpp"
#include "lib/tokenizer_utf8.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr const char* kMergesFile = "merges.txt";
constexpr const char* kVocabularyFile = "vocab.json";
constexpr const char* kFiles[] = {kTokenizerFile, kMergesFile, "bpe_simple_vocab_16e6.txt",
                                  "bpe_simple_vocab_16e6.txt.gz"};
constexpr std::string_view kWordEnd = "</w>";
constexpr const char* kBos = "<|startoftext|>";
constexpr const char* kEos = "<|endoftext|>";
constexpr std::size_t kTextMostBytes = 64U << 20;
constexpr std::uint64_t kVocabularyMost = 1U << 22;
constexpr std::uint64_t kBytes = 256;
constexpr std::uint64_t kOwn = 2 * kBytes + 2;  ///< pieces that no merge makes

using Ids = std::map<std::string, std::uint32_t, std::less<>>;

/// As the files write them.
struct Source {
    std::string place;
    std::vector<std::pair<std::string, std::string>> merges = {};
    Ids ids = {};  ///< empty: they follow from the order of the merges
};

struct Piece {
    std::string bytes;
    bool ends_word = false;
};

class Unescape {
   public:
    Unescape() {
        for (const auto& [byte, code] : byte_characters()) {
            byte_of_[utf8_of(code)] = static_cast<char>(byte);
        }
    }

    [[nodiscard]] Piece operator()(std::string_view text, const std::string& place) const {
        Piece piece;
        piece.ends_word = text.size() > kWordEnd.size() && text.ends_with(kWordEnd);
        std::string_view rest = text;
        rest.remove_suffix(piece.ends_word ? kWordEnd.size() : 0);
        while (!rest.empty()) {
            const auto byte = byte_of_.find(rest.substr(0, utf8_step(rest).size));
            if (byte == byte_of_.end()) {
                throw Error(place, "piece " + shown(text) + " has a character that is no byte");
            }
            piece.bytes += byte->second;
            rest.remove_prefix(byte->first.size());
        }
        return piece;
    }

   private:
    std::map<std::string, char, std::less<>> byte_of_;
};

/// A file, unpacked where it is packed.
std::string read_text(const std::filesystem::path& file) {
    errno = 0;
    const std::unique_ptr<gzFile_s, int (*)(gzFile)> in(gzopen(file.c_str(), "rb"), gzclose);
    if (!in) {
        throw Error(file.string(),
                    std::string("cannot be opened: ") + std::strerror(errno == 0 ? ENOMEM : errno));
    }
    std::string text;
    std::vector<char> block(1U << 18U);
    for (;;) {
        const int count = gzread(in.get(), block.data(), static_cast<unsigned>(block.size()));
        if (count < 0) {
            int code = 0;
            throw Error(file.string(), std::string("cannot be read: ") + gzerror(in.get(), &code));
        }
        if (count == 0) {
            return text;
        }
        text.append(block.data(), static_cast<std::size_t>(count));
        if (text.size() > kTextMostBytes) {
            throw Error(file.string(),
                        "is longer than " + std::to_string(kTextMostBytes) + " bytes of merges");
        }
    }
}

std::pair<std::string, std::string> split_merge(std::string_view text, const std::string& place) {
    const std::size_t blank = text.find(' ');
    if (blank == 0 || blank == std::string_view::npos || blank + 1 == text.size() ||
        text.find(' ', blank + 1) != std::string_view::npos) {
        throw Error(place, shown(text) + " is not two pieces");
    }
    return {std::string(text.substr(0, blank)), std::string(text.substr(blank + 1))};
}

/// A line a merge, behind one that tells the version.
Source read_merges(const std::filesystem::path& file) {
    Source source{.place = file.string()};
    const std::string text = read_text(file);
    std::string_view rest = text;
    for (std::size_t number = 1; !rest.empty(); ++number) {
        const std::size_t end = rest.find('\n');
        std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        const bool version = number == 1 && line.find("#version") != std::string_view::npos;
        if (!line.empty() && !version) {
            source.merges.push_back(
                split_merge(line, source.place + ": line " + std::to_string(number)));
        }
    }
    return source;
}

std::uint32_t read_id(const nlohmann::json& value, const std::string& place) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= kVocabularyMost) {
        throw Error(place, "is not a token's id");
    }
    return value.get<std::uint32_t>();
}

Ids read_ids(const JsonObject& vocabulary) {
    Ids ids;
    for (const auto& [token, id] : vocabulary.json().items()) {
        ids.emplace(token, read_id(id, vocabulary.key_place(token)));
    }
    if (ids.empty()) {
        throw Error(vocabulary.place(), "has no tokens");
    }
    return ids;
}

void read_merge_list(const JsonObject& model, Source& source) {
    const auto merges = model.json().find("merges");
    const std::string place = model.key_place("merges");
    if (merges == model.json().end() || !merges->is_array()) {
        throw Error(place, "is not a list");
    }
    for (const auto& merge : *merges) {
        const std::string at = place + "[" + std::to_string(source.merges.size()) + "]";
        if (merge.is_string()) {
            source.merges.push_back(split_merge(merge.get_ref<const std::string&>(), at));
        } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                   merge[1].is_string()) {
            source.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
        } else {
            throw Error(at, "is not two pieces");
        }
    }
}

/// Hugging Face's fast tokeniser. What makes it CLIP's is looked for by name.
Source read_tokenizer_json(const std::filesystem::path& file) {
    const auto root = JsonObject::read(file);
    const auto model = root.object_value("model");
    if (!model) {
        throw Error(root.key_place("model"), "is missing");
    }
    if (model->string_value("type").value_or("BPE") != "BPE" ||
        model->string_value("end_of_word_suffix").value_or("") != kWordEnd) {
        throw Error(model->place(), "is not CLIP's: BPE with end_of_word_suffix '</w>'");
    }
    const auto has = [&](const char* key, const char* type) {
        const auto found = root.json().find(key);
        return found != root.json().end() &&
               found->dump().find("\"" + std::string(type) + "\"") != std::string::npos;
    };
    if (!has("normalizer", "Lowercase") || !has("pre_tokenizer", "ByteLevel")) {
        throw Error(file.string(),
                    "is not CLIP's: its normalizer has no Lowercase or its pre_tokenizer no "
                    "ByteLevel");
    }
    Source source{.place = file.string()};
    const auto vocabulary = model->object_value("vocab");
    if (!vocabulary) {
        throw Error(model->key_place("vocab"), "is missing");
    }
    source.ids = read_ids(*vocabulary);
    read_merge_list(*model, source);
    const auto added = root.json().find("added_tokens");
    if (added != root.json().end() && added->is_array()) {
        for (const auto& entry : *added) {
            const JsonObject token(entry, root.key_place("added_tokens"));
            if (!entry.is_object() || !token.has("id")) {
                throw Error(token.place(), "has an entry that is no token");
            }
            source.ids.emplace(token.string_value("content").value_or(""),
                               read_id(entry.at("id"), token.key_place("id")));
        }
    }
    return source;
}

Source read_source(const std::filesystem::path& file) {
    if (file.extension() == ".json") {
        return read_tokenizer_json(file);
    }
    Source source = read_merges(file);
    const auto vocabulary = file.parent_path() / kVocabularyFile;
    if (file.filename() == kMergesFile && is_there(vocabulary)) {
        source.ids = read_ids(JsonObject::read(vocabulary));
    }
    return source;
}

/// Ids as openai counts them: bytes, bytes that end a word, merges, BOS and EOS.
void count_ids(Source& source, std::uint64_t vocabulary) {
    if (vocabulary < kOwn || source.merges.size() < vocabulary - kOwn) {
        throw Error(source.place, std::to_string(source.merges.size()) +
                                      " merges do not make a vocabulary of " +
                                      std::to_string(vocabulary));
    }
    source.merges.resize(vocabulary - kOwn);
    std::uint32_t next = 0;
    const auto add = [&](const std::string& token) {
        if (!source.ids.emplace(token, next++).second) {
            throw Error(source.place, "makes piece " + shown(token) + " twice");
        }
    };
    for (const std::string_view end : {std::string_view{}, kWordEnd}) {
        for (const auto& [byte, code] : byte_characters()) {
            add(utf8_of(code) + std::string(end));
        }
    }
    for (const auto& [left, right] : source.merges) {
        add(left + right);
    }
    add(kBos);
    add(kEos);
}

class SectionWriter {
   public:
    SectionWriter(const Source& source, std::uint64_t vocabulary)
        : source_(source), pieces_(vocabulary), kinds_(vocabulary, fb::PieceKind::unused) {}

    std::vector<std::byte> write() {
        place_pieces();
        find_merges();
        flatbuffers::FlatBufferBuilder builder;
        std::vector<std::uint8_t> text;
        std::vector<std::uint32_t> offsets{0};
        for (const std::string& piece : pieces_) {
            text.insert(text.end(), piece.begin(), piece.end());
            offsets.push_back(static_cast<std::uint32_t>(text.size()));
        }
        const auto text_at = builder.CreateVector(text);
        const auto offsets_at = builder.CreateVector(offsets);
        const auto kinds_at = builder.CreateVector(kinds_);
        const auto bytes_at = builder.CreateVector(byte_ids());
        const auto merges_at = builder.CreateVectorOfStructs(merges_);
        const auto order_at = builder.CreateVector(merge_order());
        fb::TokenizerBuilder table(builder);
        table.add_model(fb::TokenizerModel::clip_bpe);
        table.add_text(text_at);
        table.add_offsets(offsets_at);
        table.add_kinds(kinds_at);
        table.add_byte_ids(bytes_at);
        table.add_merges(merges_at);
        table.add_merge_order(order_at);
        table.add_bos_id(static_cast<std::int32_t>(id_of(kBos)));
        table.add_eos_id(static_cast<std::int32_t>(id_of(kEos)));
        table.add_add_bos(true);
        table.add_add_eos(true);
        fb::FinishTokenizerBuffer(builder, table.Finish());
        const auto bytes = std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize()));
        return {bytes.begin(), bytes.end()};
    }

   private:
    [[nodiscard]] std::uint32_t id_of(const std::string& token) const {
        const auto found = source_.ids.find(token);
        if (found == source_.ids.end()) {
            throw Error(source_.place, "has no token " + shown(token));
        }
        return found->second;
    }

    void place_pieces() {
        for (const auto& [token, id] : source_.ids) {
            if (id >= pieces_.size()) {
                throw Error(source_.place, "token " + shown(token) + " has id " +
                                               std::to_string(id) + " in a vocabulary of " +
                                               std::to_string(pieces_.size()));
            }
            if (kinds_[id] != fb::PieceKind::unused) {
                throw Error(source_.place, "two tokens have id " + std::to_string(id));
            }
            if (token == kBos || token == kEos) {
                pieces_[id] = token;
                kinds_[id] = fb::PieceKind::control;
                continue;
            }
            Piece piece = unescape_(token, source_.place);
            pieces_[id] = std::move(piece.bytes);
            kinds_[id] = piece.ends_word ? fb::PieceKind::word_end : fb::PieceKind::normal;
        }
    }

    void find_merges() {
        merges_.reserve(source_.merges.size());
        std::set<std::pair<std::uint32_t, std::uint32_t>> seen;
        for (const auto& [left, right] : source_.merges) {
            const fb::Merge merge(id_of(left), id_of(right), id_of(left + right));
            if (!seen.emplace(merge.left(), merge.right()).second) {
                throw Error(source_.place,
                            "merges " + shown(left) + " and " + shown(right) + " twice");
            }
            merges_.push_back(merge);
        }
    }

    [[nodiscard]] std::vector<std::uint32_t> byte_ids() const {
        std::vector<std::uint32_t> ids(2 * kBytes);
        for (const auto& [byte, code] : byte_characters()) {
            ids[byte] = id_of(utf8_of(code));
            ids[kBytes + byte] = id_of(utf8_of(code) + std::string(kWordEnd));
        }
        return ids;
    }

    [[nodiscard]] std::vector<std::uint32_t> merge_order() const {
        std::vector<std::uint32_t> order(merges_.size());
        std::iota(order.begin(), order.end(), 0U);
        const auto key = [this](std::uint32_t index) {
            return std::make_pair(merges_[index].left(), merges_[index].right());
        };
        std::sort(order.begin(), order.end(), [&](auto a, auto b) { return key(a) < key(b); });
        return order;
    }

    const Source& source_;
    Unescape unescape_;
    std::vector<std::string> pieces_;
    std::vector<fb::PieceKind> kinds_;
    std::vector<fb::Merge> merges_;
};

}  // namespace

std::optional<std::filesystem::path> find_clip_tokenizer(const std::filesystem::path& folder) {
    for (const char* name : kFiles) {
        if (is_there(folder / name)) {
            return folder / name;
        }
    }
    return std::nullopt;
}

std::vector<std::byte> read_clip_tokenizer(const std::filesystem::path& from,
                                           std::uint64_t vocabulary) {
    std::filesystem::path file = from;
    std::error_code ignored;
    if (std::filesystem::is_directory(from, ignored)) {
        const auto found = find_clip_tokenizer(from);
        if (!found) {
            throw Error(from.string(),
                        "has no tokeniser of CLIP's: tokenizer.json, merges.txt or "
                        "bpe_simple_vocab_16e6.txt");
        }
        file = *found;
    }
    if (vocabulary > kVocabularyMost) {
        throw Error(file.string(),
                    "a vocabulary of " + std::to_string(vocabulary) + " is too large");
    }
    Source source = read_source(file);
    if (source.ids.empty()) {
        count_ids(source, vocabulary);
    }
    std::vector<std::byte> section = SectionWriter(source, vocabulary).write();
    static_cast<void>(Tokenizer(section, source.place + ": tokeniser"));
    return section;
}

}  // namespace m4::firmware
