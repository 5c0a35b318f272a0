// SPDX-License-Identifier: MIT
#include "sched/scoring.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/sampler.hpp"

namespace m4::sched {
namespace {

constexpr std::uint64_t kEntryBytes = sizeof(std::uint32_t) + sizeof(float);

}  // namespace

Scoring::Scoring(ClientId client, RequestId request, Clock::time_point arrived, Score score,
                 std::unique_ptr<engine::Sequence> sequence, std::shared_ptr<LoadedAdapter> adapter,
                 std::uint32_t vocabulary, std::uint64_t step_bytes)
    : Work(client, request, arrived),
      vocabulary_(vocabulary),
      top_n_(score.top_n),
      rows_a_step_(static_cast<std::uint32_t>(
          std::clamp<std::uint64_t>(step_bytes / (kEntryBytes * (std::uint64_t{score.top_n} + 1)),
                                    1, std::numeric_limits<std::uint32_t>::max()))) {
    session_.client = client;
    session_.capacity = static_cast<std::uint32_t>(score.ids.size());
    session_.tokens = std::move(score.ids);
    session_.sequence = std::move(sequence);
    session_.computed_with = std::move(adapter);
    counts_.prompt_tokens = session_.capacity;
}

std::uint32_t Scoring::rows_wanted() {
    return std::min(static_cast<std::uint32_t>(session_.missing().size()), rows_a_step_);
}

void Scoring::advance(std::uint32_t rows, std::span<const float> logits,
                      std::vector<Outcome>& outcomes) {
    ScoreRows scored;
    scored.first = session_.sequence->length() - rows;
    scored.top_n = top_n_;
    if (scored.first == 0) {
        mark_first_token();
    }
    for (std::uint32_t row = 0; row < rows; ++row) {
        const auto row_logits = logits.subspan(std::size_t{row} * vocabulary_, vocabulary_);
        const std::size_t next = std::size_t{scored.first} + row + 1;
        scored.token_logprobs.push_back(
            next < session_.tokens.size() ? engine::token_logprob(row_logits, session_.tokens[next])
                                          : std::numeric_limits<float>::quiet_NaN());
        if (top_n_ == 0) {
            continue;
        }
        for (const auto& best : engine::top_logprobs(row_logits, top_n_)) {
            scored.top_ids.push_back(best.id);
            scored.top_logprobs.push_back(best.logprob);
        }
    }
    outcomes.emplace_back(std::move(scored));
    if (session_.missing().empty()) {
        end();
        outcomes.emplace_back(ScoreFinished{usage_now()});
    }
}

Outcome Scoring::cancelled() {
    end();
    return Failure{M4_E_CANCELLED, "the request was cancelled", 0};
}

}  // namespace m4::sched
