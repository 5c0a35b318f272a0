// SPDX-License-Identifier: MIT
#include "tokenizer_pieces.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <tuple>

#include "error.hpp"

namespace m4::firmware {

static_assert(std::endian::native == std::endian::little,
              "FlatBuffers' arrays are read as they lie");

namespace {

constexpr std::size_t kSectionMostBytes = 1U << 30;  // FlatBuffers ends at 2 GiB
constexpr std::size_t kAlignment = 8;

int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

std::optional<std::uint8_t> byte_of_piece(std::string_view text) {
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') {
        return std::nullopt;
    }
    const int high = hex_digit(text[3]);
    const int low = hex_digit(text[4]);
    if (high < 0 || low < 0) {
        return std::nullopt;
    }
    return static_cast<std::uint8_t>(high * 16 + low);
}

const fb::Tokenizer& open_tokenizer(std::span<const std::byte> section, const std::string& place) {
    if (section.size() < 8 || section.size() > kSectionMostBytes) {
        throw Error(place, "a section of " + std::to_string(section.size()) + " bytes");
    }
    if (reinterpret_cast<std::uintptr_t>(section.data()) % kAlignment != 0) {
        throw Error(place, "the section is not aligned to 8 bytes");
    }
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(section.data());
    flatbuffers::Verifier verifier(bytes, section.size());
    if (!fb::VerifyTokenizerBuffer(verifier)) {
        throw Error(place, "not a tokeniser section");
    }
    return *fb::GetTokenizer(bytes);
}

PieceTable::PieceTable(std::span<const std::byte> section, const std::string& place)
    : place_(place), root_(&open_tokenizer(section, place)) {
    check_arrays();
    count_ = root_->kinds()->size();
    text_ = reinterpret_cast<const char*>(root_->text()->data());
    offsets_ = root_->offsets()->data();
    scores_ = root_->scores()->data();
    kinds_ = reinterpret_cast<const fb::PieceKind*>(root_->kinds()->data());
    sorted_ = root_->sorted()->data();
    check_pieces();
    check_sorted();
    if (root_->byte_ids() != nullptr && root_->byte_ids()->size() != 0) {
        byte_ids_ = root_->byte_ids()->data();
        check_bytes();
    }
    check_special();
    index_sorted();
}

void PieceTable::fail(const std::string& reason) const {
    throw Error(place_, reason);
}

void PieceTable::check_arrays() const {
    if (root_->model() != fb::TokenizerModel::sentencepiece_bpe) {
        fail("model " + std::to_string(static_cast<unsigned>(root_->model())) + " is not known");
    }
    if (root_->text() == nullptr || root_->offsets() == nullptr || root_->scores() == nullptr ||
        root_->kinds() == nullptr || root_->sorted() == nullptr) {
        fail("an array of pieces is missing");
    }
    const std::uint64_t count = root_->kinds()->size();
    if (count == 0 || root_->offsets()->size() != count + 1 || root_->scores()->size() != count ||
        root_->sorted()->size() != count) {
        fail("the arrays of pieces have different lengths, or none");
    }
    if (root_->byte_ids() != nullptr && root_->byte_ids()->size() != 0 &&
        root_->byte_ids()->size() != 256) {
        fail("byte_ids has " + std::to_string(root_->byte_ids()->size()) + " entries");
    }
}

void PieceTable::check_pieces() const {
    if (offsets_[0] != 0 || offsets_[count_] != root_->text()->size()) {
        fail("the offsets do not span the text");
    }
    for (std::uint32_t id = 0; id < count_; ++id) {
        const auto refuse = [this, id](const std::string& reason) {
            fail("piece " + std::to_string(id) + ": " + reason);
        };
        if (offsets_[id + 1] < offsets_[id] || offsets_[id + 1] > root_->text()->size()) {
            refuse("its offset is out of order");
        }
        if (kinds_[id] < fb::PieceKind::normal || kinds_[id] > fb::PieceKind::byte) {
            refuse("kind " + std::to_string(static_cast<unsigned>(kinds_[id])) + " is not known");
        }
        if (std::isnan(scores_[id])) {  // would break the order of merges
            refuse("its score is not a number");
        }
        if (kinds_[id] == fb::PieceKind::byte && !byte_of_piece(text(id))) {
            refuse("its text is not <0xNN>");
        }
    }
}

/// Strictly ascending in (text, cannot match, id), which also says that every
/// id occurs once: there are as many entries as ids.
void PieceTable::check_sorted() const {
    const auto key = [this](std::uint32_t id) {
        return std::make_tuple(text(id), !is_matchable(kinds_[id]), id);
    };
    for (std::uint32_t i = 0; i < count_; ++i) {
        if (sorted_[i] >= count_) {
            fail("sorted names piece " + std::to_string(sorted_[i]) + " of " +
                 std::to_string(count_));
        }
        if (i > 0 && !(key(sorted_[i - 1]) < key(sorted_[i]))) {
            fail("sorted is out of order at " + std::to_string(i));
        }
    }
}

void PieceTable::check_bytes() const {
    for (std::uint32_t value = 0; value < 256; ++value) {
        const auto id = byte_ids_[value];
        if (id >= count_ || kinds_[id] != fb::PieceKind::byte || byte_of_piece(text(id)) != value) {
            fail("byte_ids[" + std::to_string(value) + "] is not that byte's piece");
        }
    }
}

void PieceTable::check_special() const {
    const auto check = [this](const char* what, std::int32_t id, fb::PieceKind kind) {
        if (id < -1 || id >= static_cast<std::int64_t>(count_) || (id >= 0 && kinds_[id] != kind)) {
            fail(std::string(what) + " " + std::to_string(id) + " is not a piece of that kind");
        }
    };
    check("unknown_id", root_->unknown_id(), fb::PieceKind::unknown);
    check("bos_id", root_->bos_id(), fb::PieceKind::control);
    check("eos_id", root_->eos_id(), fb::PieceKind::control);
    if (root_->add_bos() && root_->bos_id() < 0) {
        fail("add_bos without a bos_id");
    }
    if (root_->add_eos() && root_->eos_id() < 0) {
        fail("add_eos without an eos_id");
    }
    if (byte_ids_ == nullptr && root_->unknown_id() < 0) {
        fail("neither byte pieces nor an unknown piece: some text has no ids");
    }
}

void PieceTable::index_sorted() {
    std::uint32_t at = 0;
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
        while (at < count_ && (text(sorted_[at]).empty() ||
                               static_cast<unsigned char>(text(sorted_[at]).front()) < byte)) {
            ++at;
        }
        first_.at(byte) = at;
    }
    first_.at(256) = count_;
    for (std::uint32_t i = 0; i < count_; ++i) {
        const auto id = sorted_[i];
        if (is_matchable(kinds_[id])) {
            longest_bytes_ = std::max(longest_bytes_, text(id).size());
        }
        if (kinds_[id] == fb::PieceKind::user_defined && !text(id).empty()) {
            user_defined_.push_back(id);
        }
    }
}

std::optional<std::uint32_t> PieceTable::find(std::string_view wanted) const {
    if (wanted.empty() || wanted.size() > longest_bytes_) {
        return std::nullopt;
    }
    const auto byte = static_cast<unsigned char>(wanted.front());
    const auto* end = sorted_ + first_[byte + 1U];
    const auto* found =
        std::lower_bound(sorted_ + first_[byte], end, wanted,
                         [this](std::uint32_t id, std::string_view w) { return text(id) < w; });
    if (found == end || text(*found) != wanted || !is_matchable(kinds_[*found])) {
        return std::nullopt;
    }
    return *found;
}

/// Narrows the range of pieces that agree with `wanted`, byte by byte. A piece
/// that ends here sorts before its continuations.
std::size_t PieceTable::user_defined_prefix(std::string_view wanted) const {
    auto low = user_defined_.begin();
    auto high = user_defined_.end();
    std::size_t best = 0;
    for (std::size_t depth = 0; depth < wanted.size() && low != high; ++depth) {
        const auto byte = static_cast<unsigned char>(wanted[depth]);
        const auto at = [this, depth](std::uint32_t id) {  // -1: the piece has ended
            const auto piece = text(id);
            return depth < piece.size() ? static_cast<int>(static_cast<unsigned char>(piece[depth]))
                                        : -1;
        };
        low = std::partition_point(low, high, [&](std::uint32_t id) { return at(id) < byte; });
        high = std::partition_point(low, high, [&](std::uint32_t id) { return at(id) == byte; });
        if (low != high && text(*low).size() == depth + 1) {
            best = depth + 1;
        }
    }
    return best;
}

}  // namespace m4::firmware
