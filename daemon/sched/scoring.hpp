// SPDX-License-Identifier: MIT
#pragma once

#include "sched/backend.hpp"
#include "sched/work.hpp"

namespace m4::sched {

/// A score request: runs tokens through a sequence of its own and reports what
/// the model expected after each.
class Scoring final : public Work {
   public:
    /// `ids` is not empty and fits the sequence, which is empty. Steps are kept so small that the
    /// rows of one come to about `step_bytes`.
    Scoring(ClientId client, RequestId request, Clock::time_point arrived, Score score,
            std::unique_ptr<engine::Sequence> sequence, std::shared_ptr<LoadedAdapter> adapter,
            std::uint32_t vocabulary, std::uint64_t step_bytes);

    [[nodiscard]] Session& session() override { return session_; }
    [[nodiscard]] bool decoding() const override { return false; }
    [[nodiscard]] std::uint32_t rows_wanted() override;
    [[nodiscard]] engine::Logits logits_of(std::uint32_t /*rows*/) override {
        return engine::Logits::all;
    }
    void advance(std::uint32_t rows, std::span<const float> logits,
                 std::vector<Outcome>& outcomes) override;
    [[nodiscard]] Outcome cancelled() override;

   private:
    Session session_;
    std::uint32_t vocabulary_;
    std::uint32_t top_n_;
    std::uint32_t rows_a_step_;
};

}  // namespace m4::sched
