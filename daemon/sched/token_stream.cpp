// SPDX-License-Identifier: MIT
#include "sched/token_stream.hpp"

#include <cstddef>
#include <utility>

namespace m4::sched {
namespace {

// Ids whose text is long in coming (control tokens while a stop text may be
// under way) are shown without it rather than piled up.
constexpr std::size_t kMaxHeldIds = 256;

}  // namespace

TokenStream::TokenStream(const TextModel& text, std::vector<std::string> stops, bool first)
    : text_(&text), matcher_(std::move(stops)), first_(first) {}

Piece TokenStream::push(std::uint32_t id) {
    ids_.push_back(id);
    const std::string bytes = text_->piece(id, first_);
    first_ = first_ && text_->is_control(id);
    Piece piece;
    piece.text = matcher_.push(assembler_.push(bytes));
    // A control token has no text to wait for.
    const bool silent = bytes.empty() && !matcher_.holds();
    if (!piece.text.empty() || silent || ids_.size() >= kMaxHeldIds) {
        piece.ids = std::exchange(ids_, {});
    }
    return piece;
}

Piece TokenStream::finish() {
    Piece piece;
    piece.text = matcher_.push(assembler_.finish());
    piece.text += matcher_.finish();
    piece.ids = std::exchange(ids_, {});
    return piece;
}

}  // namespace m4::sched
