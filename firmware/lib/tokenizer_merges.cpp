// SPDX-License-Identifier: MIT
#include "tokenizer_merges.hpp"

#include <algorithm>
#include <utility>

#include "error.hpp"
#include "tokenizer_pieces.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint32_t kBytes = 256;

bool is_piece(fb::PieceKind kind) {
    return kind == fb::PieceKind::normal || kind == fb::PieceKind::word_end;
}

}  // namespace

MergeTable::MergeTable(std::span<const std::byte> section, const std::string& place)
    : place_(place), root_(&open_tokenizer(section, place)) {
    check_arrays();
    check_pieces();
    check_bytes();
    check_merges();
    check_special();
}

void MergeTable::fail(const std::string& reason) const {
    throw Error(place_, reason);
}

void MergeTable::check_arrays() const {
    if (root_->model() != fb::TokenizerModel::clip_bpe) {
        fail("model " + std::to_string(static_cast<unsigned>(root_->model())) + " is not known");
    }
    if (root_->text() == nullptr || root_->offsets() == nullptr || root_->kinds() == nullptr ||
        root_->byte_ids() == nullptr || root_->merges() == nullptr ||
        root_->merge_order() == nullptr) {
        fail("an array of pieces or merges is missing");
    }
    if (count() == 0 || root_->offsets()->size() != std::uint64_t{count()} + 1) {
        fail("the arrays of pieces have different lengths, or none");
    }
    if (root_->byte_ids()->size() != 2 * kBytes) {
        fail("byte_ids has " + std::to_string(root_->byte_ids()->size()) + " entries");
    }
    if (root_->merge_order()->size() != root_->merges()->size()) {
        fail("merge_order is not as long as merges");
    }
}

void MergeTable::check_pieces() const {
    const auto& offsets = *root_->offsets();
    if (offsets[0] != 0 || offsets[count()] != root_->text()->size()) {
        fail("the offsets do not span the text");
    }
    for (std::uint32_t id = 0; id < count(); ++id) {
        const auto refuse = [this, id](const std::string& reason) {
            fail("piece " + std::to_string(id) + ": " + reason);
        };
        if (offsets[id + 1] < offsets[id] || offsets[id + 1] > root_->text()->size()) {
            refuse("its offset is out of order");
        }
        if (!is_piece(kind(id)) && kind(id) != fb::PieceKind::control &&
            kind(id) != fb::PieceKind::unused) {
            refuse("kind " + std::to_string(static_cast<unsigned>(kind(id))) + " is not known");
        }
    }
}

void MergeTable::check_bytes() const {
    for (std::uint32_t i = 0; i < 2 * kBytes; ++i) {
        const std::uint32_t id = (*root_->byte_ids())[i];
        const char byte = static_cast<char>(i % kBytes);
        const auto wanted = i < kBytes ? fb::PieceKind::normal : fb::PieceKind::word_end;
        if (id >= count() || kind(id) != wanted || text(id) != std::string_view(&byte, 1)) {
            fail("byte_ids[" + std::to_string(i) + "] is not that byte's piece");
        }
    }
}

/// A merge's result is its parts' text, so that what is decoded is what was encoded.
void MergeTable::check_merges() const {
    const auto& merges = *root_->merges();
    for (std::uint32_t i = 0; i < merges.size(); ++i) {
        const fb::Merge& merge = *merges[i];
        const auto refuse = [this, i](const std::string& reason) {
            fail("merge " + std::to_string(i) + ": " + reason);
        };
        if (merge.left() >= count() || merge.right() >= count() || merge.result() >= count()) {
            refuse("names a piece that is not there");
        }
        if (kind(merge.left()) != fb::PieceKind::normal || !is_piece(kind(merge.right())) ||
            kind(merge.result()) != kind(merge.right())) {
            refuse("is of pieces that cannot merge so");
        }
        const auto left = text(merge.left());
        const auto right = text(merge.right());
        const auto result = text(merge.result());
        if (left.empty() || right.empty() || result.size() != left.size() + right.size() ||
            !result.starts_with(left) || !result.ends_with(right)) {
            refuse("its result is not its parts' text");
        }
    }
    const auto& order = *root_->merge_order();
    const auto key = [&merges](std::uint32_t index) {
        return std::make_pair(merges[index]->left(), merges[index]->right());
    };
    for (std::uint32_t i = 0; i < order.size(); ++i) {
        if (order[i] >= merges.size() || (i > 0 && !(key(order[i - 1]) < key(order[i])))) {
            fail("merge_order is out of order at " + std::to_string(i));
        }
    }
}

void MergeTable::check_special() const {
    const auto check = [this](const char* what, std::int32_t id, bool added) {
        if (id < -1 || id >= static_cast<std::int64_t>(count()) || (added && id < 0) ||
            (id >= 0 && kind(static_cast<std::uint32_t>(id)) != fb::PieceKind::control)) {
            fail(std::string(what) + " " + std::to_string(id) + " is not a piece of that kind");
        }
    };
    check("bos_id", root_->bos_id(), root_->add_bos());
    check("eos_id", root_->eos_id(), root_->add_eos());
}

std::string_view MergeTable::text(std::uint32_t id) const {
    const auto& offsets = *root_->offsets();
    return {reinterpret_cast<const char*>(root_->text()->data()) + offsets[id],
            offsets[id + 1] - offsets[id]};
}

std::optional<MergeTable::Found> MergeTable::find(std::uint32_t left, std::uint32_t right) const {
    const auto& merges = *root_->merges();
    const std::uint32_t* begin = root_->merge_order()->data();
    const std::uint32_t* end = begin + root_->merge_order()->size();
    const auto key = [&merges](std::uint32_t index) {
        return std::make_pair(merges[index]->left(), merges[index]->right());
    };
    const auto wanted = std::make_pair(left, right);
    const auto* found = std::lower_bound(
        begin, end, wanted,
        [&key](std::uint32_t index, const auto& pair) { return key(index) < pair; });
    if (found == end || key(*found) != wanted) {
        return std::nullopt;
    }
    return Found{*found, merges[*found]->result()};
}

}  // namespace m4::firmware
