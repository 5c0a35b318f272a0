// SPDX-License-Identifier: MIT
#include "tokenizer_clip.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <queue>

#include "error.hpp"
#include "tokenizer_merges.hpp"
#include "tokenizer_utf8.hpp"

namespace m4::firmware {

namespace {

constexpr std::int32_t kNone = -1;
constexpr std::int32_t kDottedI = 0x130;  // the one character whose lower case is two
constexpr std::int32_t kDotAbove = 0x307;

/// A well-formed character, or one byte that is none: code -1.
struct Character {
    std::int32_t code = -1;
    std::size_t size = 1;
};

Character first_character(std::string_view text) {
    const Utf8Step step = utf8_step(text);
    if (step.kind != Utf8Step::Kind::character) {
        return {};
    }
    Character character{0, step.size};
    (void)utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                           static_cast<utf8proc_ssize_t>(step.size), &character.code);
    return character;
}

void append_character(std::int32_t code, std::string& out) {
    std::array<utf8proc_uint8_t, 4> bytes{};
    const auto size = utf8proc_encode_char(code, bytes.data());
    out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(size));
}

void append_decomposed(std::int32_t code, std::vector<std::int32_t>& codes) {
    std::array<utf8proc_int32_t, 8> parts{};  // no canonical decomposition is longer than four
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(code, parts.data(), parts.size(), UTF8PROC_DECOMPOSE, &boundary);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
        codes.push_back(code);
        return;
    }
    codes.insert(codes.end(), parts.begin(), parts.begin() + count);
}

/// Canonical order. The library's own is quadratic in a run of marks.
void order_marks(std::vector<std::int32_t>& codes) {
    const auto mark_class = [](std::int32_t code) {
        return utf8proc_get_property(code)->combining_class;
    };
    for (auto at = codes.begin(); at != codes.end();) {
        const auto end =
            std::find_if(at, codes.end(), [&](std::int32_t code) { return mark_class(code) == 0; });
        std::stable_sort(
            at, end, [&](std::int32_t a, std::int32_t b) { return mark_class(a) < mark_class(b); });
        at = end == codes.end() ? end : end + 1;
    }
}

/// Characters as text, composed and in lower case; takes them.
void append_normal(std::vector<std::int32_t>& codes, std::string& out) {
    order_marks(codes);
    const auto composed = utf8proc_normalize_utf32(
        codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    if (composed < 0 || composed > static_cast<utf8proc_ssize_t>(codes.size())) {
        throw Error("text to encode", utf8proc_errmsg(composed));
    }
    for (utf8proc_ssize_t i = 0; i < composed; ++i) {
        const std::int32_t code = codes[static_cast<std::size_t>(i)];
        if (code == kDottedI) {
            out += 'i';
            append_character(kDotAbove, out);
        } else {
            append_character(utf8proc_tolower(code), out);
        }
    }
    codes.clear();
}

enum class Class : std::uint8_t { blank, letter, number, other };

/// White_Space of the Unicode standard.
bool is_blank(std::int32_t code) {
    return (code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

Class class_of(std::int32_t code) {
    if (code < 0) {
        return Class::other;
    }
    if (is_blank(code)) {
        return Class::blank;
    }
    switch (utf8proc_category(code)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
            return Class::letter;
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
            return Class::number;
        default:
            return Class::other;
    }
}

/// Merges one word after the other; keeps its room.
class WordMerger {
   public:
    explicit WordMerger(const MergeTable& table) : table_(table) {}

    void append(std::string_view word, std::vector<std::uint32_t>& ids) {
        begin(word);
        // The reference merges all places of the best pair before it looks at what
        // came of them; so candidates that a rank makes wait until it is done.
        while (!heap_.empty()) {
            const std::uint32_t rank = heap_.top().rank;
            while (!heap_.empty() && heap_.top().rank == rank) {
                const Candidate best = heap_.top();
                heap_.pop();
                merge(best);
            }
            for (const std::int32_t left : changed_) {
                propose(left);
            }
            changed_.clear();
        }
        for (std::int32_t i = 0; i != kNone; i = at(i).next) {
            ids.push_back(at(i).id);
        }
    }

   private:
    struct Symbol {
        std::uint32_t id = 0;
        std::int32_t previous = kNone;
        std::int32_t next = kNone;
        bool gone = false;
    };
    /// Stale once either side has changed.
    struct Candidate {
        std::uint32_t rank = 0;
        std::int32_t left = 0;
        std::uint32_t left_id = 0;
        std::uint32_t right_id = 0;
        std::uint32_t result = 0;

        /// For a max-heap: the lowest rank, then the leftmost, comes out first.
        bool operator<(const Candidate& other) const {
            return rank > other.rank || (rank == other.rank && left > other.left);
        }
    };

    Symbol& at(std::int32_t index) { return symbols_[static_cast<std::size_t>(index)]; }

    void begin(std::string_view word) {
        symbols_.clear();
        const auto count = static_cast<std::int32_t>(word.size());
        for (std::int32_t i = 0; i < count; ++i) {
            const auto byte = static_cast<std::uint8_t>(word[static_cast<std::size_t>(i)]);
            const bool last = i + 1 == count;
            symbols_.push_back({table_.byte_id(byte, last), i - 1, last ? kNone : i + 1, false});
        }
        for (std::int32_t i = 0; i < count; ++i) {
            propose(i);
        }
    }

    void propose(std::int32_t left) {
        if (left == kNone || at(left).gone || at(left).next == kNone) {
            return;
        }
        const std::uint32_t right_id = at(at(left).next).id;
        if (const auto found = table_.find(at(left).id, right_id)) {
            heap_.push({found->rank, left, at(left).id, right_id, found->result});
        }
    }

    void merge(const Candidate& candidate) {
        Symbol& left = at(candidate.left);
        if (left.gone || left.id != candidate.left_id || left.next == kNone ||
            at(left.next).id != candidate.right_id) {
            return;
        }
        Symbol& right = at(left.next);
        right.gone = true;
        left.id = candidate.result;
        left.next = right.next;
        if (left.next != kNone) {
            at(left.next).previous = candidate.left;
        }
        changed_.push_back(left.previous);
        changed_.push_back(candidate.left);
    }

    const MergeTable& table_;
    std::vector<Symbol> symbols_;
    std::priority_queue<Candidate> heap_;
    std::vector<std::int32_t> changed_;  ///< left sides to be proposed anew
};

}  // namespace

std::string clip_normal(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    std::vector<std::int32_t> codes;
    while (!text.empty()) {
        const Character character = first_character(text);
        if (character.code >= 0) {
            append_decomposed(character.code, codes);
        } else {
            append_normal(codes, out);
            out += text.front();
        }
        text.remove_prefix(character.size);
    }
    append_normal(codes, out);
    return out;
}

std::string_view next_clip_word(std::string_view& rest) {
    Character first = rest.empty() ? Character{} : first_character(rest);
    while (!rest.empty() && class_of(first.code) == Class::blank) {
        rest.remove_prefix(first.size);
        first = rest.empty() ? Character{} : first_character(rest);
    }
    const auto cut = [&rest](std::size_t size) {
        const std::string_view word = rest.substr(0, size);
        rest.remove_prefix(size);
        return word;
    };
    if (rest.empty()) {
        return {};
    }
    for (const std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
        if (rest.starts_with(ending)) {
            return cut(ending.size());
        }
    }
    const Class kind = class_of(first.code);
    std::size_t size = first.size;
    while (kind != Class::number && size < rest.size()) {
        const Character next = first_character(rest.substr(size));
        if (class_of(next.code) != kind) {
            break;
        }
        size += next.size;
    }
    return cut(size);
}

void append_clip_ids(const MergeTable& table, std::string_view text,
                     std::vector<std::uint32_t>& ids) {
    const std::string normal = clip_normal(text);
    WordMerger merger(table);
    std::string_view rest = normal;
    for (auto word = next_clip_word(rest); !word.empty(); word = next_clip_word(rest)) {
        merger.append(word, ids);
    }
}

}  // namespace m4::firmware
