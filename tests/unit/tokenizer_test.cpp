// SPDX-License-Identifier: MIT
// The tokeniser against the SentencePiece library, piece by piece and on models
// trained here, so that the comparison needs no data from outside.
#include <doctest/doctest.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <importers/gguf.hpp>
#include <importers/tokenizer_section.hpp>
#include <lib/error.hpp>
#include <lib/tokenizer.hpp>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "checkpoint_writer.hpp"
#include "skip.hpp"
#include "temp_folder.hpp"

using m4::firmware::Error;
using m4::firmware::Tokenizer;
using m4::firmware::TokenizerSource;
using m4::test::TempFolder;

namespace {

constexpr const char* kBlank = "\xE2\x96\x81";

/// A section and the tokeniser that reads it where it lies.
struct Ours {
    std::vector<std::byte> section;
    Tokenizer tokenizer;

    explicit Ours(const TokenizerSource& source)
        : section(m4::firmware::build_tokenizer_section(source, source.pieces.size(), "test")),
          tokenizer(section, "test") {}
};

std::vector<std::uint32_t> to_ids(const std::vector<int>& ids) {
    return {ids.begin(), ids.end()};
}

/// Words that repeat, so that merges form, with characters of 1 to 4 bytes.
std::string training_text() {
    const std::vector<std::string> words = {
        "the",   "there", "then",  "other", "mother", "running", "runner",   "run",
        "naïve", "fröh",  "größe", "人工",  "人",     "🙂",    "🙂🙃", "12",
        "3.14",  "foo()", "bar",   "barn",  "a",      "an",      "and",      "hand",
    };
    const std::vector<std::string> syllables = {"ba", "ro", "ning", "th", "e",  "lu",
                                                "kö", "st", "and",  "er", "人", "ish"};
    std::mt19937 random(7);
    std::string text;
    for (int line = 0; line < 400; ++line) {
        for (int word = 0; word < 12; ++word) {
            text += words[random() % words.size()] + (random() % 9 == 0 ? ", " : " ");
            text += syllables[random() % syllables.size()] + syllables[random() % 5] + " ";
        }
        text += '\n';
    }
    return text;
}

/// Trains a BPE model; `more` are further trainer arguments.
std::filesystem::path train(const TempFolder& folder, const std::string& more) {
    m4::test::write_file(folder / "text", training_text());
    const auto prefix = (folder / "m").string();
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        "--input=" + (folder / "text").string() + " --model_prefix=" + prefix +
        " --minloglevel=2 " + more +  // of two values the trainer takes the first
        " --model_type=bpe --normalization_rule_name=identity");
    REQUIRE_MESSAGE(status.ok(), status.ToString());
    return prefix + ".model";
}

class RandomText {
   public:
    explicit RandomText(std::uint32_t seed) : random_(seed) {}

    /// Valid UTF-8: words, blanks in runs, odd characters, names of pieces.
    std::string next() {
        static const std::vector<std::string> kUnits = {
            "the", "mother", "run",  "ning", " ",     " ",      "  ",   "\n",   "\t",    "é",
            "ö",   "人",     "工",   "🙂", "🙃",  "𝄞",      "<s>",  "</s>", "<unk>", "a",
            "b",   "<0x41>", "zq",   "12",   "<sep>", "<sepa>", "\r\n", "ß",    "ther",  "o",
            "h",   "and",    "\x01", "█",    "bar",   "n",      "(",    ")",    ".",     ",",
        };
        std::string out;
        const auto units = random_() % 24;
        for (unsigned i = 0; i < units; ++i) {
            out += random_() % 40 == 0 ? kBlank : kUnits[random_() % kUnits.size()];
        }
        return out;
    }

    std::string bytes() {
        std::string out;
        for (auto count = random_() % 40; count > 0; --count) {
            out += static_cast<char>(random_() % 3 == 0 ? random_() : 'a' + random_() % 26);
        }
        return out;
    }

   private:
    std::mt19937 random_;
};

void compare(const sentencepiece::SentencePieceProcessor& reference, const Tokenizer& ours,
             int count) {
    RandomText random(11);
    for (int i = 0; i < count; ++i) {
        const auto text = random.next();
        CAPTURE(text);
        const auto ids = ours.encode(text, false);
        REQUIRE(ids == to_ids(reference.EncodeAsIds(text)));
        REQUIRE(ours.decode(ids) == reference.DecodeIds({ids.begin(), ids.end()}));
    }
}

/// The library and the runtime on one serialised model.
void compare_model(const std::filesystem::path& model, int count) {
    sentencepiece::SentencePieceProcessor reference;
    REQUIRE(reference.Load(model.string()).ok());
    const Ours ours(m4::firmware::read_sentencepiece_model(model));
    CHECK(static_cast<int>(ours.tokenizer.vocabulary()) == reference.GetPieceSize());
    CHECK(ours.tokenizer.bos_id() == reference.bos_id());
    CHECK(ours.tokenizer.eos_id() == reference.eos_id());
    for (int id = 0; id < reference.GetPieceSize(); ++id) {
        REQUIRE(ours.tokenizer.is_control(static_cast<std::uint32_t>(id)) ==
                reference.IsControl(id));
    }
    compare(reference, ours.tokenizer, count);
}

constexpr const char* kWithBytes =
    "--vocab_size=420 --byte_fallback=true --remove_extra_whitespaces=false";

std::string stories() {
    const auto data = m4::test::shared_data();
    return data.empty() ? data : data + "/stories260K/";
}

}  // namespace

TEST_CASE("tokenizer: byte fallback, as SentencePiece encodes and decodes") {
    const TempFolder folder;
    compare_model(train(folder, kWithBytes), 4000);
}

TEST_CASE("tokenizer: user-defined pieces, longest first, as SentencePiece") {
    const TempFolder folder;
    compare_model(train(folder, std::string(kWithBytes) +
                                    " --user_defined_symbols=<sep>,<sepa>,ther,\xE2\x96\x81"
                                    "and,12"),
                  4000);
}

TEST_CASE("tokenizer: unknown characters in runs, extra blanks removed, as SentencePiece") {
    const TempFolder folder;
    compare_model(train(folder,
                        "--vocab_size=120 --remove_extra_whitespaces=true "
                        "--character_coverage=0.98 --user_defined_symbols=<sep>"),
                  4000);
}

TEST_CASE("tokenizer: no dummy prefix, as SentencePiece") {
    const TempFolder folder;
    compare_model(train(folder, std::string(kWithBytes) + " --add_dummy_prefix=false"), 2000);
}

TEST_CASE("tokenizer: unused pieces are taken apart again, as SentencePiece") {
    const TempFolder folder;
    auto source = m4::firmware::read_sentencepiece_model(train(folder, kWithBytes));
    std::size_t turned = 0;
    for (std::size_t id = 0; id < source.pieces.size(); id += 2) {
        if (source.pieces[id].kind == 1) {
            source.pieces[id].kind = 5;
            ++turned;
        }
    }
    REQUIRE(turned > 20);
    m4::test::write_file(folder / "unused.model", m4::test::sentencepiece_model(source));
    compare_model(folder / "unused.model", 4000);
}

TEST_CASE("tokenizer: equal scores merge from the left, as SentencePiece") {
    const TempFolder folder;
    auto source = m4::firmware::read_sentencepiece_model(train(folder, kWithBytes));
    for (auto& piece : source.pieces) {
        piece.score = piece.text.size() % 2 == 0 ? -1.0F : -2.0F;
    }
    m4::test::write_file(folder / "equal.model", m4::test::sentencepiece_model(source));
    compare_model(folder / "equal.model", 4000);
}

TEST_CASE("tokenizer: decoding gives back any bytes that were encoded") {
    const TempFolder folder;
    const Ours ours(m4::firmware::read_sentencepiece_model(train(folder, kWithBytes)));
    RandomText random(5);
    for (int i = 0; i < 3000; ++i) {
        const auto text = random.bytes();
        CAPTURE(text);
        REQUIRE(ours.tokenizer.decode(ours.tokenizer.encode(text, true)) == text);
    }
    const std::string zeros("a\0b", 3);
    CHECK(ours.tokenizer.decode(ours.tokenizer.encode(zeros, true)) == zeros);
    CHECK(ours.tokenizer.encode("", false).empty());
    CHECK(ours.tokenizer.encode("", true) == std::vector<std::uint32_t>{1});
}

TEST_CASE("tokenizer: text never yields control pieces") {
    const Ours ours(m4::test::tiny_tokenizer());
    for (const auto id : ours.tokenizer.encode("<s></s><unk>the<s>", false)) {
        CHECK_FALSE(ours.tokenizer.is_control(id));
        CHECK(id != 0);
    }
    CHECK(ours.tokenizer.piece(1, false).empty());
    CHECK(ours.tokenizer.piece(1U << 30, false).empty());
}

TEST_CASE("tokenizer: the dummy blank falls only from a first piece, and only where one is added") {
    auto source = m4::test::tiny_tokenizer();
    const auto the = static_cast<std::uint32_t>(3 + 256 + 4);
    const Ours with(source);
    CHECK(with.tokenizer.piece(the, true) == "the");
    CHECK(with.tokenizer.piece(the, false) == " the");
    source.add_space_prefix = false;
    const Ours without(source);
    CHECK(without.tokenizer.piece(the, true) == " the");
}

TEST_CASE("tokenizer: time grows about as the text does") {
    const Ours ours(m4::test::tiny_tokenizer());
    const auto seconds = [&](const std::string& unit, std::size_t size) {
        std::string text;
        while (text.size() < size) {
            text += unit;
        }
        const auto begin = std::clock();
        CHECK_FALSE(ours.tokenizer.encode(text, false).empty());
        return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    };
    for (const char* unit : {"t", "the ", "ingreheing", "\xE4\xBA\xBA", "\xFF"}) {
        CAPTURE(unit);
        // 32 times; quadratic: 1024 times. A busy machine's caches make one try
        // slow now and then, the best of three less so.
        double small = HUGE_VAL;
        double large = HUGE_VAL;
        for (int i = 0; i < 3; ++i) {
            small = std::min(small, seconds(unit, 32U << 10));
            large = std::min(large, seconds(unit, 1U << 20));
        }
        CHECK(large < 200 * small + 0.05);
    }
}

TEST_CASE("tokenizer: a section cut or altered is read or refused, never worse") {
    const Ours ours(m4::test::tiny_tokenizer());
    std::size_t refused = 0;
    const auto probe = [&](std::vector<std::byte> bytes) {
        try {
            const Tokenizer tokenizer(bytes, "altered");
            const auto ids = tokenizer.encode("the thing <s> \xE4\xBA\xBA\xFF", true);
            CHECK_FALSE(tokenizer.decode(ids).empty());
        } catch (const Error& error) {
            CHECK(error.place() == "altered");
            ++refused;
        }
    };
    for (std::size_t size = 0; size < ours.section.size(); size += 7) {
        probe({ours.section.begin(), ours.section.begin() + static_cast<std::ptrdiff_t>(size)});
    }
    CHECK(refused == (ours.section.size() + 6) / 7);
    for (std::size_t at = 0; at < ours.section.size(); ++at) {
        auto bytes = ours.section;
        bytes[at] ^= static_cast<std::byte>(1U << (at % 8));
        probe(bytes);
    }
}

TEST_CASE("tokenizer: sections that lie are refused by name") {
    const auto fault = [](const std::function<void(TokenizerSource&)>& spoil) -> std::string {
        auto source = m4::test::tiny_tokenizer();
        spoil(source);
        try {
            const Ours ours(source);
        } catch (const Error& error) {
            return error.what();
        }
        return {};
    };
    const auto contains = [](const std::string& text, const char* part) {
        return text.find(part) != std::string::npos;
    };
    CHECK(fault([](auto&) {}).empty());
    CHECK(contains(fault([](auto& s) { s.bos_id = 5; }), "bos_id"));
    CHECK(contains(fault([](auto& s) { s.eos_id = 100000; }), "eos_id"));
    CHECK(contains(fault([](auto& s) { s.bos_id = -1; }), "add_bos"));
    CHECK(contains(fault([](auto& s) { s.unknown_id = 1; }), "unknown_id"));
    CHECK(contains(fault([](auto& s) { s.pieces[3].kind = 1; }), "none for byte 0"));
    CHECK(contains(fault([](auto& s) { s.pieces[4].text = "<0x00>"; }), "second one"));
    CHECK(contains(fault([](auto& s) { s.pieces[260].score = std::stof("nan"); }), "score"));
    CHECK(contains(fault([](auto& s) {
                       s.unknown_id = -1;
                       for (auto& piece : s.pieces) {
                           piece.kind = piece.kind == 6 ? 1 : piece.kind;
                       }
                   }),
                   "neither byte pieces nor"));
}

TEST_CASE("tokenizer: models the runtime does not do are refused by name") {
    const TempFolder folder;
    const auto fault = [&](const std::string& more) -> std::string {
        try {
            (void)m4::firmware::read_sentencepiece_model(train(folder, more));
        } catch (const Error& error) {
            return error.what();
        }
        return {};
    };
    const auto contains = [](const std::string& text, const char* part) {
        return text.find(part) != std::string::npos;
    };
    CHECK(contains(fault("--vocab_size=90 --model_type=unigram --hard_vocab_limit=false"),
                   "unigram is not supported"));
    CHECK(contains(fault("--vocab_size=120 --normalization_rule_name=nmt_nfkc"),
                   "precompiled_charsmap"));
    CHECK(contains(fault("--vocab_size=120 --treat_whitespace_as_suffix=true"),
                   "treat_whitespace_as_suffix"));
    const std::string model = m4::test::sentencepiece_model(m4::test::tiny_tokenizer());
    for (std::size_t size = 0; size < model.size(); size += 3) {
        m4::test::write_file(folder / "cut.model", model.substr(0, size));
        try {
            (void)m4::firmware::read_sentencepiece_model(folder / "cut.model");
        } catch (const Error&) {
            // Cut inside a field; between two fields it is a shorter model.
        }
    }
}

TEST_CASE("tokenizer: stories260K, against SentencePiece, its GGUF and the golden prompts") {
    const auto root = stories();
    if (root.empty()) {
        M4_SKIP("no reference data");
    }
    compare_model(root + "hf/tokenizer.model", 4000);
    const Ours model(m4::firmware::read_sentencepiece_model(root + "hf/tokenizer.model"));
    const m4::firmware::GgufFile file(root + "stories260K.f32.gguf");
    const Ours gguf(m4::firmware::read_gguf_tokenizer(file));
    CHECK(model.section == gguf.section);
    RandomText random(3);
    for (int i = 0; i < 1000; ++i) {
        const auto text = random.next();
        REQUIRE(model.tokenizer.encode(text, true) == gguf.tokenizer.encode(text, true));
    }
    std::ifstream in(root + "golden.json");
    const auto golden = nlohmann::json::parse(in);
    int prompts = 0;
    for (const auto& [name, entry] : golden.items()) {
        if (!entry.is_object() || !entry.contains("prompt")) {
            continue;
        }
        CAPTURE(name);
        ++prompts;
        CHECK(gguf.tokenizer.encode(entry["prompt"].get<std::string>(), true) ==
              entry["prompt_ids"].get<std::vector<std::uint32_t>>());
        if (entry.contains("text")) {
            CHECK(gguf.tokenizer.decode(entry["ids"].get<std::vector<std::uint32_t>>()) ==
                  entry["text"].get<std::string>());
        }
    }
    CHECK(prompts > 0);
}

TEST_CASE("tokenizer: vocabularies of other kinds are refused by name") {
    const auto data = m4::test::shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data");
    }
    const m4::firmware::GgufFile file(data + "/tokenizers/ggml-vocab-falcon.gguf");
    CHECK_THROWS_WITH_AS((void)m4::firmware::read_gguf_tokenizer(file),
                         doctest::Contains("tokeniser 'gpt2' is not supported"), Error);
}

TEST_CASE("utf8 assembler: characters come whole, however they are cut") {
    const std::string text = "aé人🙂𝄞z\n";
    for (std::size_t first = 0; first <= text.size(); ++first) {
        for (std::size_t second = first; second <= text.size(); ++second) {
            m4::firmware::Utf8Assembler assembler;
            std::string out;
            for (const auto& part :
                 {text.substr(0, first), text.substr(first, second - first), text.substr(second)}) {
                const auto whole = assembler.push(part);
                m4::firmware::Utf8Assembler alone;  // what comes is valid by itself
                REQUIRE(alone.push(whole) == whole);
                REQUIRE(alone.finish().empty());
                out += whole;
            }
            CHECK(out + assembler.finish() == text);
        }
    }
}

TEST_CASE("utf8 assembler: one U+FFFD a maximal subpart") {
    const std::string bad = "\xEF\xBF\xBD";
    const auto assembled = [](const std::string& bytes, bool one_by_one) {
        m4::firmware::Utf8Assembler assembler;
        std::string out;
        for (std::size_t i = 0; one_by_one && i < bytes.size(); ++i) {
            out += assembler.push(bytes.substr(i, 1));
        }
        if (!one_by_one) {
            out = assembler.push(bytes);
        }
        return out + assembler.finish();
    };
    for (const bool one_by_one : {false, true}) {
        // The Unicode standard's own example, table 3-8.
        CHECK(assembled("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", one_by_one) ==
              "a" + bad + bad + bad + "b" + bad + "c" + bad + bad + "d");
        CHECK(assembled("\xC0\xAF", one_by_one) == bad + bad);            // overlong
        CHECK(assembled("\xED\xA0\x80", one_by_one) == bad + bad + bad);  // surrogate
        CHECK(assembled("\xF4\x90\x80\x80", one_by_one) == bad + bad + bad + bad);
        CHECK(assembled("x\xF0\x9F\x99", one_by_one) == "x" + bad);  // cut at the end
    }
}
