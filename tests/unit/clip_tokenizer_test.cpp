// SPDX-License-Identifier: MIT
// CLIP's tokeniser against a plain one that follows the published procedure word by
// word, over random merges and, where the data is there, the published ones.
#include <doctest/doctest.h>
#include <importers/clip_tokenizer.hpp>
#include <lib/error.hpp>
#include <lib/tokenizer.hpp>
#include <lib/tokenizer_clip.hpp>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "checkpoint_writer.hpp"
#include "image_samples.hpp"
#include "skip.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

using firmware::Tokenizer;
using Merges = std::vector<std::pair<std::string, std::string>>;

constexpr const char* kEnd = "</w>";

struct Ours {
    std::vector<std::byte> section;
    Tokenizer tokenizer;

    Ours(const std::filesystem::path& from, std::uint64_t vocabulary)
        : section(firmware::read_clip_tokenizer(from, vocabulary)), tokenizer(section, "test") {}
};

/// The procedure as published: each round merges every place of the best pair.
class Plain {
   public:
    explicit Plain(const Merges& merges) {
        std::vector<std::string> bytes(256);
        int others = 0;
        std::vector<std::string> seen;
        std::vector<std::string> unseen;
        for (int byte = 0; byte < 256; ++byte) {
            const bool own = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
            const int code = own ? byte : 256 + others++;
            bytes[byte] = code < 128 ? std::string(1, static_cast<char>(code))
                                     : std::string{static_cast<char>(0xc0 + code / 64),
                                                   static_cast<char>(0x80 + code % 64)};
            (own ? seen : unseen).push_back(bytes[byte]);
        }
        bytes_ = bytes;
        seen.insert(seen.end(), unseen.begin(), unseen.end());
        std::uint32_t next = 0;
        for (const char* end : {"", kEnd}) {
            for (const std::string& piece : seen) {
                ids_[piece + end] = next++;
            }
        }
        for (const auto& [left, right] : merges) {
            ranks_[{left, right}] = ranks_.size();
            ids_[left + right] = next++;
        }
    }

    void append(const std::string& word, std::vector<std::uint32_t>& ids) const {
        std::vector<std::string> parts;
        for (const char byte : word) {
            parts.push_back(bytes_[static_cast<unsigned char>(byte)]);
        }
        parts.back() += kEnd;
        for (;;) {
            auto best = ranks_.end();
            for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
                const auto found = ranks_.find({parts[i], parts[i + 1]});
                if (found != ranks_.end() &&
                    (best == ranks_.end() || found->second < best->second)) {
                    best = found;
                }
            }
            if (best == ranks_.end()) {
                break;
            }
            std::vector<std::string> merged;
            for (std::size_t i = 0; i < parts.size(); ++i) {
                const bool here = i + 1 < parts.size() && parts[i] == best->first.first &&
                                  parts[i + 1] == best->first.second;
                merged.push_back(here ? parts[i] + parts[i + 1] : parts[i]);
                i += here ? 1 : 0;
            }
            parts = merged;
        }
        for (const std::string& part : parts) {
            ids.push_back(ids_.at(part));
        }
    }

   private:
    std::vector<std::string> bytes_;
    std::map<std::string, std::uint32_t> ids_;
    std::map<std::pair<std::string, std::string>, std::size_t> ranks_;
};

/// Characters whose class and lower case are known here, not looked up.
struct Unit {
    const char* text;
    char kind;  ///< Letter, Number, Blank, Other
    const char* lower;
};
constexpr Unit kUnits[] = {
    {"a", 'L', "a"},       {"b", 'L', "b"},       {"E", 'L', "e"},       {"t", 'L', "t"},
    {"h", 'L', "h"},       {"s", 'L', "s"},       {"T", 'L', "t"},       {"r", 'L', "r"},
    {"l", 'L', "l"},       {"m", 'L', "m"},       {"v", 'L', "v"},       {"d", 'L', "d"},
    {"É", 'L', "é"},       {"ß", 'L', "ß"},       {"Ω", 'L', "ω"},       {"人", 'L', "人"},
    {"ǅ", 'L', "ǆ"},       {"ʰ", 'L', "ʰ"},       {"𝒳", 'L', "𝒳"},       {"Ж", 'L', "ж"},
    {"1", 'N', "1"},       {"9", 'N', "9"},       {"²", 'N', "²"},       {"Ⅷ", 'N', "ⅷ"},
    {"٣", 'N', "٣"},       {" ", 'B', " "},       {"  ", 'B', " "},      {"\n", 'B', " "},
    {"\u00a0", 'B', " "},  {"\u3000", 'B', " "},  {"!", 'O', "!"},       {"'", 'O', "'"},
    {".", 'O', "."},       {"<", 'O', "<"},       {"/", 'O', "/"},       {">", 'O', ">"},
    {"€", 'O', "€"},       {"🙂", 'O', "🙂"}, {"\x01", 'O', "\x01"}, {"\u0940", 'O', "\u0940"},
    {"\xff", 'O', "\xff"},
};

struct Sample {
    std::string text;
    std::vector<std::string> words;
};

Sample random_sample(std::mt19937& random) {
    std::vector<const Unit*> units;
    for (auto count = random() % 40; count > 0; --count) {
        units.push_back(&kUnits[random() % std::size(kUnits)]);
        for (auto more = random() % 3; more > 0 && random() % 2 == 0; --more) {
            units.push_back(&kUnits[random() % 12]);
        }
    }
    Sample sample;
    for (const Unit* unit : units) {
        sample.text += unit->text;
    }
    for (std::size_t at = 0; at < units.size();) {
        const auto letters = [&](const std::string& wanted) {
            std::string got;
            for (std::size_t i = 0; i < wanted.size() && at + i < units.size(); ++i) {
                got += units[at + i]->lower;
            }
            return got == wanted;
        };
        std::size_t size = 1;
        for (const char* ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
            if (letters(ending)) {
                size = std::string(ending).size();
            }
        }
        const char kind = units[at]->kind;
        while (size == 1 && kind != 'N' && at + size < units.size() &&
               units[at + size]->kind == kind) {
            for (++size; at + size < units.size() && units[at + size]->kind == kind;) {
                ++size;
            }
        }
        std::string word;
        for (std::size_t i = at; i < at + size; ++i) {
            word += units[i]->lower;
        }
        if (kind != 'B') {
            sample.words.push_back(word);
        }
        at += size;
    }
    return sample;
}

/// Merges of pieces there are, in no order that training would give.
Merges random_merges(std::size_t count, std::mt19937& random) {
    std::vector<std::string> inner = {"a", "b", "e", "t", "h", "s", "r", "l", "Ã", "©", "<", "!"};
    std::vector<std::string> last;
    for (const std::string& piece : inner) {
        last.push_back(piece + kEnd);
    }
    std::map<std::string, bool> made;
    Merges merges;
    while (merges.size() < count) {
        const bool ends = random() % 3 == 0;
        const std::string left = inner[random() % inner.size()];
        const auto& rights = ends ? last : inner;
        const std::string right = rights[random() % rights.size()];
        if (left.size() + right.size() < 24 && made.emplace(left + right, true).second) {
            merges.emplace_back(left, right);
            (ends ? last : inner).push_back(left + right);
        }
    }
    // A pair may be better than those its parts come of.
    std::shuffle(merges.begin(), merges.end(), random);
    return merges;
}

std::string merges_text(const Merges& merges) {
    std::string text = "#version: 0.2\n";
    for (const auto& [left, right] : merges) {
        text += left + " " + right + "\n";
    }
    return text;
}

void compare(const Plain& plain, const Tokenizer& ours, int count, std::uint32_t seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < count; ++i) {
        const Sample sample = random_sample(random);
        CAPTURE(sample.text);
        std::vector<std::uint32_t> wanted;
        std::string running;
        for (const std::string& word : sample.words) {
            plain.append(word, wanted);
            running += word + " ";
        }
        const auto ids = ours.encode(sample.text, false);
        REQUIRE(ids == wanted);
        REQUIRE(ours.decode(ids) == running);
    }
}

}  // namespace

TEST_CASE("clip tokenizer: random merges, as the published procedure does them") {
    for (std::uint32_t seed = 1; seed <= 6; ++seed) {
        const TempFolder folder;
        std::mt19937 random(seed);
        const Merges merges = random_merges(60 * seed, random);
        write_file(folder / "merges.txt", std::string_view(merges_text(merges)));
        const std::uint64_t vocabulary = 514 + merges.size();
        const Ours ours(folder / "merges.txt", vocabulary);
        CHECK(ours.tokenizer.vocabulary() == vocabulary);
        CHECK(ours.tokenizer.bos_id() == static_cast<std::int32_t>(vocabulary) - 2);
        CHECK(ours.tokenizer.eos_id() == static_cast<std::int32_t>(vocabulary) - 1);
        compare(Plain(merges), ours.tokenizer, 1500, seed);
    }
}

TEST_CASE("clip tokenizer: text is composed and in lower case") {
    CHECK(firmware::clip_normal("Cafe\u0301 A\u030a") == "café å");
    CHECK(firmware::clip_normal("\u0130stanbul") == "i\u0307stanbul");
    CHECK(firmware::clip_normal("\u1112\u1161\u11ab") == "한");
    CHECK(firmware::clip_normal("a\u0323\u0301b") == firmware::clip_normal("a\u0301\u0323b"));
    CHECK(firmware::clip_normal("\u212a") == "k");  // the sign for kelvin is the letter
    // A byte that is no character divides what it stands in.
    CHECK(firmware::clip_normal("E\xff\u0301\xe2\x82") == "e\xff\u0301\xe2\x82");
}

TEST_CASE("clip tokenizer: the files it comes in say the same") {
    const TempFolder folder;
    std::mt19937 random(3);
    const Merges merges = random_merges(100, random);
    const std::string text = merges_text(merges);
    write_file(folder / "merges.txt", std::string_view(text));
    const auto section = firmware::read_clip_tokenizer(folder / "merges.txt", 614);
    // openai's file has a longer first line, and merges that are not used.
    write_file(folder / "bpe_simple_vocab_16e6.txt",
               std::string_view("\"bpe_simple_vocab_16e6.txt" + text + "q q\nz z\n"));
    CHECK(firmware::read_clip_tokenizer(folder / "bpe_simple_vocab_16e6.txt", 614) == section);

    // Ids of files that give them: here all turned round.
    nlohmann::json vocabulary;
    const Tokenizer plain(section, "test");
    nlohmann::json list = nlohmann::json::array();
    for (const auto& [left, right] : merges) {
        list.push_back(left + " " + right);
    }
    const Plain reference(merges);
    std::vector<std::string> escaped(614);
    // The names of pieces, from the order of the merges.
    for (int end = 0; end < 2; ++end) {
        int others = 0;
        std::vector<std::string> seen;
        std::vector<std::string> unseen;
        for (int byte = 0; byte < 256; ++byte) {
            const bool own = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
            const int code = own ? byte : 256 + others++;
            const auto name = code < 128 ? std::string(1, static_cast<char>(code))
                                         : std::string{static_cast<char>(0xc0 + code / 64),
                                                       static_cast<char>(0x80 + code % 64)};
            (own ? seen : unseen).push_back(name + (end == 0 ? "" : kEnd));
        }
        std::copy(seen.begin(), seen.end(), escaped.begin() + end * 256);
        std::copy(unseen.begin(), unseen.end(),
                  escaped.begin() + end * 256 + static_cast<std::ptrdiff_t>(seen.size()));
    }
    for (std::size_t i = 0; i < merges.size(); ++i) {
        escaped[512 + i] = merges[i].first + merges[i].second;
    }
    escaped[612] = "<|startoftext|>";
    escaped[613] = "<|endoftext|>";
    for (std::size_t i = 0; i < escaped.size(); ++i) {
        vocabulary[escaped[i]] = 613 - i;
    }
    write_file(folder / "vocab.json", std::string_view(vocabulary.dump()));
    const auto turned = firmware::read_clip_tokenizer(folder / "merges.txt", 614);
    CHECK(turned != section);
    nlohmann::json fast = {
        {"normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}}},
        {"pre_tokenizer", {{"type", "ByteLevel"}}},
        {"added_tokens", {{{"id", 0}, {"content", "<|endoftext|>"}}}},
        {"model",
         {{"type", "BPE"}, {"end_of_word_suffix", kEnd}, {"vocab", vocabulary}, {"merges", list}}}};
    write_file(folder / "tokenizer.json", std::string_view(fast.dump()));
    CHECK(firmware::read_clip_tokenizer(folder / "tokenizer.json", 614) == turned);
    CHECK(firmware::read_clip_tokenizer(folder / std::filesystem::path(), 614) == turned);
    const Tokenizer other(turned, "test");
    const auto ids = plain.encode("The Threshhold's é!", true);
    auto expected = ids;
    for (auto& id : expected) {
        id = 613 - id;
    }
    CHECK(other.encode("The Threshhold's é!", true) == expected);

    fast["model"]["end_of_word_suffix"] = nullptr;
    write_file(folder / "tokenizer.json", std::string_view(fast.dump()));
    CHECK(contains(
        refusal([&] { (void)firmware::read_clip_tokenizer(folder / "tokenizer.json", 614); }),
        "is not CLIP's"));
}

TEST_CASE("clip tokenizer: files that are wrong are refused by name") {
    struct Case {
        const char* text;
        std::uint64_t vocabulary;
        const char* expected;
    };
    for (const Case& one : {
             Case{"#version: 0.2\na b\n", 515, "accepted"},
             Case{"a b\r\n\r\n", 515, "accepted"},
             Case{"#version: 0.2\na b\n", 516, "1 merges do not make a vocabulary of 516"},
             Case{"#version: 0.2\na b\n", 500, "do not make a vocabulary of 500"},
             Case{"#version: 0.2\na b c\n", 515, "line 2: 'a b c' is not two pieces"},
             Case{"#version: 0.2\n b\n", 515, "is not two pieces"},
             Case{"#version: 0.2\na \n", 515, "is not two pieces"},
             Case{"a b\n#version: 0.2\n", 516, "has no token '0.2'"},
             Case{"a b\na b\n", 516, "makes piece 'ab' twice"},
             Case{"ab c\n", 515, "has no token 'ab'"},
             Case{"a</w> b\n", 515, "cannot merge so"},
             Case{"a 人\n", 515, "has a character that is no byte"},
             Case{"a \xff\n", 515, "has a character that is no byte"},
         }) {
        CAPTURE(std::string(one.text));
        const TempFolder folder;
        write_file(folder / "merges.txt", std::string_view(one.text));
        const std::string text = refusal(
            [&] { (void)firmware::read_clip_tokenizer(folder / "merges.txt", one.vocabulary); });
        CAPTURE(text);
        CHECK(contains(text, one.expected));
    }
    const TempFolder folder;
    CHECK(contains(refusal([&] {
                       (void)firmware::read_clip_tokenizer(folder / std::filesystem::path(), 515);
                   }),
                   "has no tokeniser of CLIP's"));
    CHECK(
        contains(refusal([&] { (void)firmware::read_clip_tokenizer(folder / "merges.txt", 515); }),
                 "cannot be opened"));
}

TEST_CASE("clip tokenizer: a section cut or altered is read or refused, never worse") {
    const TempFolder folder;
    std::mt19937 random(5);
    write_file(folder / "merges.txt", std::string_view(merges_text(random_merges(40, random))));
    const auto section = firmware::read_clip_tokenizer(folder / "merges.txt", 554);
    std::size_t refused = 0;
    const auto probe = [&](const std::vector<std::byte>& bytes) {
        try {
            const Tokenizer tokenizer(bytes, "altered");
            const auto ids = tokenizer.encode("The the <s> \xE4\xBA\xBA\xFF heathbeast", true);
            for (const std::uint32_t id : ids) {
                CHECK(id < tokenizer.vocabulary());
            }
        } catch (const firmware::Error& error) {
            CHECK(error.place() == "altered");
            ++refused;
        }
    };
    for (std::size_t size = 0; size < section.size(); size += 13) {
        probe({section.begin(), section.begin() + static_cast<std::ptrdiff_t>(size)});
    }
    CHECK(refused == (section.size() + 12) / 13);
    for (std::size_t at = 0; at < section.size(); ++at) {
        auto bytes = section;
        bytes[at] ^= static_cast<std::byte>(1U << (at % 8));
        probe(bytes);
    }
    CHECK(refused > section.size() / 4);
}

TEST_CASE("clip tokenizer: time grows about as the text does") {
    const TempFolder folder;
    std::mt19937 random(5);
    write_file(folder / "merges.txt", std::string_view(merges_text(random_merges(200, random))));
    const Ours ours(folder / "merges.txt", 714);
    const auto seconds = [&](const std::string& unit, std::size_t size) {
        std::string text;
        while (text.size() < size) {
            text += unit;
        }
        const auto begin = std::clock();
        CHECK_FALSE(ours.tokenizer.encode(text, false).empty());
        return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    };
    // One word, many, marks in the worst order, ill-formed bytes.
    for (const char* unit : {"aaaaeth", "the 's", "\u0301\u0323", "\xff", "!'", "\u1161"}) {
        CAPTURE(unit);
        double small = HUGE_VAL;
        double large = HUGE_VAL;
        for (int i = 0; i < 3; ++i) {
            small = std::min(small, seconds(unit, 16U << 10));
            large = std::min(large, seconds(unit, 512U << 10));
        }
        CHECK(large < 200 * small + 0.05);
    }
}

TEST_CASE("clip tokenizer: the published merges") {
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const auto file =
        std::filesystem::path(shared_data()) / "tokenizers" / "clip_bpe_simple_vocab_16e6.txt.gz";
    const Ours ours(file, 49408);
    const Tokenizer& tokenizer = ours.tokenizer;
    using Ids = std::vector<std::uint32_t>;
    CHECK(tokenizer.encode("hello world!", true) == Ids{49406, 3306, 1002, 256, 49407});
    CHECK(tokenizer.encode("a photo of a cat", true) ==
          Ids{49406, 320, 1125, 539, 320, 2368, 49407});
    CHECK(tokenizer.encode("A  Diagram\n", false) == Ids{320, 22697});
    CHECK(tokenizer.encode("a dog", false) == Ids{320, 1929});
    CHECK(tokenizer.encode("", true) == Ids{49406, 49407});
    CHECK(tokenizer.decode(tokenizer.encode("Hello,   WORLD's 12", true)) ==
          "hello , world 's 1 2 ");
    // What stands for an end is never text.
    const auto ids = tokenizer.encode("a<|endoftext|>b", false);
    CHECK(std::find(ids.begin(), ids.end(), 49407U) == ids.end());
}

}  // namespace m4::test
