// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.hpp"
#include "sched/completion.hpp"
#include "sched/session.hpp"

namespace m4::sched {

using Clock = std::chrono::steady_clock;

/// A generate or score request from admission to its last outcome. Engine
/// thread only.
class Work {
   public:
    Work(ClientId client, RequestId request, Clock::time_point arrived)
        : client_(client), request_(request), arrived_(arrived) {}
    virtual ~Work() = default;
    Work(const Work&) = delete;
    Work& operator=(const Work&) = delete;

    [[nodiscard]] ClientId client() const { return client_; }
    [[nodiscard]] RequestId request() const { return request_; }

    [[nodiscard]] virtual Session& session() = 0;
    /// Has its first token, and all but the last computed: wants one row a step.
    [[nodiscard]] virtual bool decoding() const = 0;
    /// Rows of the next step it could use; > 0 until finished().
    [[nodiscard]] virtual std::uint32_t rows_wanted() = 0;
    /// Which logits a chunk of `rows` rows must return.
    [[nodiscard]] virtual engine::Logits logits_of(std::uint32_t rows) = 0;
    /// A step computed `rows` rows; `logits` are those asked for.
    virtual void advance(std::uint32_t rows, std::span<const float> logits,
                         std::vector<Outcome>& outcomes) = 0;
    /// A token that the device chose, of Logits::greedy; after advance(), and
    /// not once it has finished.
    virtual void accept(std::uint32_t /*id*/, std::vector<Outcome>& /*outcomes*/) {}
    /// The best tokens, of Logits::top; after advance().
    virtual void choose(std::span<const engine::Candidate> /*best*/,
                        std::vector<Outcome>& /*outcomes*/) {}
    /// How it ends when someone cancels it.
    [[nodiscard]] virtual Outcome cancelled() = 0;

    [[nodiscard]] bool finished() const { return finished_; }
    [[nodiscard]] bool started() const { return turn_ != 0; }
    /// Step number of its last rows; 0: none yet.
    [[nodiscard]] std::uint64_t turn() const { return turn_; }
    /// Who lacks pages may take those of a higher number (core_pages.cpp).
    [[nodiscard]] std::uint64_t rank() const { return rank_; }
    void set_rank(std::uint64_t rank) { rank_ = rank; }
    /// Called before each step that has rows of it.
    void take_turn(std::uint64_t step_number) {
        if (turn_ == 0) {
            started_at_ = Clock::now();
        }
        turn_ = step_number;
    }

    /// Nothing more comes of it.
    void end() { finished_ = true; }

   protected:
    void mark_first_token() { first_token_at_ = Clock::now(); }
    [[nodiscard]] Usage usage_now() const;
    Usage counts_;  ///< the token counts; times come from usage_now()

   private:
    ClientId client_;
    RequestId request_;
    std::uint64_t turn_ = 0;
    std::uint64_t rank_ = 0;
    bool finished_ = false;
    Clock::time_point arrived_;
    Clock::time_point started_at_;
    Clock::time_point first_token_at_;
};

}  // namespace m4::sched
