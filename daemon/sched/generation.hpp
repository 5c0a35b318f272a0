// SPDX-License-Identifier: MIT
#pragma once

#include "engine/sampler.hpp"
#include "sched/backend.hpp"
#include "sched/token_stream.hpp"
#include "sched/work.hpp"

namespace m4::sched {

/// A generate request: computes what its session lacks, then a token a step,
/// each appended to the session.
class Generation final : public Work {
   public:
    /// `session` (not empty) and `text` must outlive it. Marks the session
    /// active until destroyed. `candidates`: Backend::most_candidates(). Throws what the sampler
    /// throws on bad options.
    Generation(ClientId client, RequestId request, Clock::time_point arrived, Generate options,
               Session& session, const TextModel& text, std::uint32_t candidates);
    ~Generation() override;

    [[nodiscard]] Session& session() override { return *session_; }
    [[nodiscard]] bool decoding() const override {
        return counts_.output_tokens > 0 && session_->missing().size() == 1;
    }
    [[nodiscard]] std::uint32_t rows_wanted() override;
    [[nodiscard]] engine::Logits logits_of(std::uint32_t rows) override;
    void advance(std::uint32_t rows, std::span<const float> logits,
                 std::vector<Outcome>& outcomes) override;
    void accept(std::uint32_t id, std::vector<Outcome>& outcomes) override;
    void choose(std::span<const engine::Candidate> best, std::vector<Outcome>& outcomes) override;
    [[nodiscard]] Outcome cancelled() override;

    /// The session had no room for a first token.
    [[nodiscard]] bool full() const { return session_->position() == session_->capacity; }
    [[nodiscard]] Outcome finished_as(m4_finish finish, Piece piece = {});

   private:
    [[nodiscard]] m4_finish finish_after(std::uint32_t id) const;

    Session* session_;
    engine::Sampler sampler_;
    engine::Logits wanted_;  ///< of the row that gives the next token
    TokenStream stream_;
    std::uint32_t max_tokens_;
    std::int32_t eos_id_;  ///< -1: none, or ignored
};

}  // namespace m4::sched
