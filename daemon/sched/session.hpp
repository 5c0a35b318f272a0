// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/engine.hpp"
#include "sched/request.hpp"

namespace m4::sched {

/// A context: its tokens, and the keys and values of a leading part of them,
/// which the scheduler may shorten where others lack pages.
/// Engine thread only.
struct Session {
    SessionId id = 0;
    ClientId client = 0;
    std::vector<std::uint32_t> tokens;  ///< at most `capacity`
    std::uint32_t capacity = 0;
    /// sequence->length() <= tokens.size(): what is missing is computed when
    /// a request needs it.
    std::unique_ptr<engine::Sequence> sequence;
    /// Rows that stand for inputs of other senses, by position; their tokens are 0.
    /// Clones share them.
    std::map<std::uint32_t, std::shared_ptr<const std::vector<float>>> rows;
    /// Of requests that ask for none; null: the bare base.
    std::shared_ptr<LoadedAdapter> adapter;
    /// That the sequence's keys and values were computed with.
    std::shared_ptr<LoadedAdapter> computed_with;
    std::uint64_t tokens_generated = 0;
    std::uint64_t last_used = 0;  ///< number of its last step
    bool active = false;          ///< a request of it waits or runs

    [[nodiscard]] std::uint32_t position() const {
        return static_cast<std::uint32_t>(tokens.size());
    }
    /// Tokens the next step may take.
    [[nodiscard]] std::span<const std::uint32_t> missing() const {
        return std::span(tokens).subspan(sequence->length());
    }
    /// All or nothing: false where it does not fit.
    [[nodiscard]] bool append(std::span<const std::uint32_t> ids);
    /// Of the next `count` missing tokens, those that are rows of other senses.
    [[nodiscard]] std::vector<engine::EmbeddedRow> missing_rows(std::uint32_t count) const;
    /// `values`: rows of `columns`, which have room.
    void append_rows(std::span<const float> values, std::uint32_t columns);
    /// Go on with this adapter (null: none). Keys and values of another are forgotten:
    /// they are no use to it.
    void compute_with(std::shared_ptr<LoadedAdapter> wanted);
    /// position <= position().
    void truncate(std::uint32_t position);
    /// Forget the keys and values of the last token if held, since its logits
    /// are wanted.
    void prepare_logits();
};

}  // namespace m4::sched
