// SPDX-License-Identifier: MIT
#include "tokenizer.hpp"

#include <limits>
#include <queue>
#include <unordered_map>
#include <utility>
#include <variant>

#include "error.hpp"
#include "tokenizer_bytes.hpp"
#include "tokenizer_clip.hpp"
#include "tokenizer_merges.hpp"
#include "tokenizer_pieces.hpp"
#include "tokenizer_utf8.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kBlank = "\xE2\x96\x81";      // U+2581
constexpr std::string_view kUnknown = " \xE2\x81\x87 ";  // what an unknown piece reads as
constexpr std::int32_t kNone = -1;

/// A stretch of the text that is one piece so far; a merged-away symbol is
/// empty. Symbols form a doubly linked list by index.
struct Symbol {
    std::string_view text;
    std::int32_t previous = kNone;
    std::int32_t next = kNone;
    bool frozen = false;  ///< a user-defined piece: takes part in no merge
};

/// Two neighbours that together are a piece. Stale once either has changed,
/// which their sizes tell.
struct Candidate {
    float score;
    std::int32_t left;
    std::int32_t right;
    std::uint32_t size_bytes;

    /// For a max-heap: the best score, then the leftmost, comes out first.
    bool operator<(const Candidate& other) const {
        return score < other.score || (score == other.score && left > other.left);
    }
};

/// Byte-pair merging of one text. Every merge lowers the number of symbols and
/// adds at most two candidates, so this is O(n log n).
class Merger {
   public:
    Merger(const PieceTable& pieces, std::string_view text) : pieces_(pieces) {
        while (!text.empty()) {
            const std::size_t user = pieces_.user_defined_prefix(text);
            const std::size_t size = user != 0 ? user : character_bytes(text);
            const auto index = static_cast<std::int32_t>(symbols_.size());
            symbols_.push_back({text.substr(0, size), index - 1, index + 1, user != 0});
            text.remove_prefix(size);
        }
        if (!symbols_.empty()) {
            symbols_.back().next = kNone;
        }
    }

    void run() {
        const auto count = static_cast<std::int32_t>(symbols_.size());
        for (std::int32_t i = 1; i < count; ++i) {
            propose(i - 1, i);
        }
        while (!heap_.empty()) {
            const auto best = heap_.top();
            heap_.pop();
            if (is_current(best)) {
                merge(best);
            }
        }
    }

    /// Calls emit(text) for each final piece in order. A merged piece that the
    /// model marks unused is taken apart again into what it was merged from.
    template <typename Emit>
    void each_piece(const Emit& emit) const {
        std::vector<std::string_view> stack;
        for (std::int32_t i = symbols_.empty() ? kNone : 0; i != kNone;
             i = symbols_[static_cast<std::size_t>(i)].next) {
            stack.push_back(symbols_[static_cast<std::size_t>(i)].text);
            while (!stack.empty()) {
                const auto text = stack.back();
                stack.pop_back();
                const auto id = pieces_.find(text);
                const auto parts = id ? unused_parts_.find(*id) : unused_parts_.end();
                if (parts == unused_parts_.end()) {
                    emit(text, id);
                } else {
                    stack.push_back(parts->second.second);
                    stack.push_back(parts->second.first);
                }
            }
        }
    }

   private:
    /// Ill-formed bytes stand alone, one by one.
    static std::size_t character_bytes(std::string_view text) {
        const auto step = utf8_step(text);
        return step.kind == Utf8Step::Kind::character ? step.size : 1;
    }

    Symbol& at(std::int32_t index) { return symbols_[static_cast<std::size_t>(index)]; }

    void propose(std::int32_t left, std::int32_t right) {
        if (left == kNone || right == kNone || at(left).frozen || at(right).frozen) {
            return;
        }
        // Neighbours lie side by side in one text.
        const std::string_view joined(at(left).text.data(),
                                      at(left).text.size() + at(right).text.size());
        const auto id = pieces_.find(joined);
        if (!id) {
            return;
        }
        heap_.push({pieces_.score(*id), left, right, static_cast<std::uint32_t>(joined.size())});
        if (pieces_.kind(*id) == fb::PieceKind::unused) {
            unused_parts_[*id] = {at(left).text, at(right).text};
        }
    }

    bool is_current(const Candidate& candidate) {
        const auto& left = at(candidate.left);
        const auto& right = at(candidate.right);
        return !left.text.empty() && !right.text.empty() &&
               left.text.size() + right.text.size() == candidate.size_bytes;
    }

    void merge(const Candidate& candidate) {
        auto& left = at(candidate.left);
        auto& right = at(candidate.right);
        left.text = {left.text.data(), candidate.size_bytes};
        right.text = {};
        left.next = right.next;
        if (left.next != kNone) {
            at(left.next).previous = candidate.left;
        }
        propose(left.previous, candidate.left);
        propose(candidate.left, left.next);
    }

    const PieceTable& pieces_;
    std::vector<Symbol> symbols_;
    std::priority_queue<Candidate> heap_;
    std::unordered_map<std::uint32_t, std::pair<std::string_view, std::string_view>> unused_parts_;
};

void append_escaped(std::string& out, std::string_view text) {
    for (const char c : text) {
        if (c == ' ') {
            out += kBlank;
        } else {
            out += c;
        }
    }
}

/// Drops blanks at both ends and all but one of a run. A user-defined piece is
/// taken whole: only its leading blanks can fall to the run before it.
std::string normalize_spaces(const PieceTable& pieces, std::string_view text, bool prefix) {
    const auto begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) {
        return {};
    }
    text.remove_prefix(begin);
    std::string out(prefix ? kBlank : std::string_view{});
    bool after_blank = true;
    while (!text.empty()) {
        const std::size_t user = pieces.user_defined_prefix(text);
        auto unit = text.substr(0, user != 0 ? user : 1);
        text.remove_prefix(unit.size());
        while (after_blank && !unit.empty() && unit.front() == ' ') {
            unit.remove_prefix(1);
        }
        if (!unit.empty()) {
            append_escaped(out, unit);
            after_blank = unit.back() == ' ';
        }
    }
    while (std::string_view(out).ends_with(kBlank)) {
        out.resize(out.size() - kBlank.size());
    }
    return out;
}

std::string normalize(const PieceTable& pieces, std::string_view text) {
    if (text.empty()) {
        return {};
    }
    const bool prefix = pieces.root().add_space_prefix();
    if (pieces.root().remove_extra_spaces()) {
        return normalize_spaces(pieces, text, prefix);
    }
    std::string out(prefix ? kBlank : std::string_view{});
    append_escaped(out, text);
    return out;
}

}  // namespace

struct Tokenizer::Impl {
    std::variant<PieceTable, MergeTable, ByteTable> tables;

    [[nodiscard]] const fb::Tokenizer& root() const {
        return std::visit([](const auto& table) -> const fb::Tokenizer& { return table.root(); },
                          tables);
    }
    [[nodiscard]] bool is_kind(std::uint32_t id, fb::PieceKind kind) const {
        return std::visit(
            [&](const auto& table) { return id < table.count() && table.kind(id) == kind; },
            tables);
    }
    static Impl open(std::span<const std::byte> section, const std::string& place) {
        switch (open_tokenizer(section, place).model()) {
            case fb::TokenizerModel::clip_bpe:
                return {MergeTable(section, place)};
            case fb::TokenizerModel::byte_pieces:
                return {ByteTable(section, place)};
            default:
                break;
        }
        return {PieceTable(section, place)};
    }
};

namespace {

void append_ids(const PieceTable& pieces, std::string_view text, std::vector<std::uint32_t>& ids) {
    const std::string normal = normalize(pieces, text);
    Merger merger(pieces, normal);
    merger.run();
    bool after_unknown = false;
    merger.each_piece([&](std::string_view piece, std::optional<std::uint32_t> id) {
        const bool unknown = !id;
        if (id) {
            ids.push_back(*id);
        } else if (const auto* byte_ids = pieces.byte_ids()) {
            for (const char c : piece) {
                ids.push_back(byte_ids[static_cast<unsigned char>(c)]);
            }
        } else if (!after_unknown) {  // a run of unknown characters is one piece
            ids.push_back(static_cast<std::uint32_t>(pieces.root().unknown_id()));
        }
        after_unknown = unknown;
    });
}

std::string piece_text(const PieceTable& pieces, std::uint32_t id, bool first) {
    auto text = pieces.text(id);
    if (pieces.kind(id) == fb::PieceKind::byte) {
        return std::string(1, static_cast<char>(byte_of_piece(text).value_or(0)));
    }
    if (pieces.kind(id) == fb::PieceKind::unknown) {
        return std::string(kUnknown);
    }
    if (first && pieces.root().add_space_prefix() && text.starts_with(kBlank)) {
        text.remove_prefix(kBlank.size());
    }
    std::string out;
    out.reserve(text.size());
    while (!text.empty()) {
        const bool blank = text.starts_with(kBlank);
        out += blank ? ' ' : text.front();
        text.remove_prefix(blank ? kBlank.size() : 1);
    }
    return out;
}

}  // namespace

Tokenizer::Tokenizer(std::span<const std::byte> section, const std::string& place)
    : impl_(new Impl(Impl::open(section, place))) {}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<std::uint32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
    // A blank may triple, and symbols count in 32 bits.
    if (text.size() > std::numeric_limits<std::int32_t>::max() / 4) {
        throw Error("text to encode", "is longer than 512 MiB");
    }
    const auto& root = impl_->root();
    std::vector<std::uint32_t> ids;
    if (add_special && root.add_bos()) {
        ids.push_back(static_cast<std::uint32_t>(root.bos_id()));
    }
    if (const auto* clip = std::get_if<MergeTable>(&impl_->tables)) {
        append_clip_ids(*clip, text, ids);
    } else if (const auto* pieces = std::get_if<PieceTable>(&impl_->tables)) {
        append_ids(*pieces, text, ids);
    }
    if (add_special && root.add_eos()) {
        ids.push_back(static_cast<std::uint32_t>(root.eos_id()));
    }
    return ids;
}

std::string Tokenizer::piece(std::uint32_t id, bool first) const {
    if (id >= vocabulary() || is_control(id)) {
        return {};
    }
    if (const auto* clip = std::get_if<MergeTable>(&impl_->tables)) {
        const bool ends_word = clip->kind(id) == fb::PieceKind::word_end;
        return std::string(clip->text(id)) + (ends_word ? " " : "");
    }
    if (const auto* bytes = std::get_if<ByteTable>(&impl_->tables)) {
        return std::string(bytes->text(id));
    }
    return piece_text(std::get<PieceTable>(impl_->tables), id, first);
}

std::string Tokenizer::decode(std::span<const std::uint32_t> ids) const {
    std::string out;
    bool first = true;
    for (const auto id : ids) {
        out += piece(id, first);
        // Where blanks are normalised away, those before the text all are.
        first = first && (is_control(id) || (impl_->root().remove_extra_spaces() && out.empty()));
    }
    return out;
}

std::uint32_t Tokenizer::vocabulary() const {
    return impl_->root().kinds()->size();
}

bool Tokenizer::is_control(std::uint32_t id) const {
    return impl_->is_kind(id, fb::PieceKind::control);
}

std::int32_t Tokenizer::bos_id() const {
    return impl_->root().bos_id();
}

std::int32_t Tokenizer::eos_id() const {
    return impl_->root().eos_id();
}

bool Tokenizer::add_bos() const {
    return impl_->root().add_bos();
}

}  // namespace m4::firmware
