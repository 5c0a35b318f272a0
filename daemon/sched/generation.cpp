// SPDX-License-Identifier: MIT
#include "sched/generation.hpp"

#include <algorithm>
#include <random>
#include <utility>

namespace m4::sched {
namespace {

engine::SamplingOptions with_seed(engine::SamplingOptions options) {
    if (options.seed == 0) {
        std::random_device device;
        options.seed = (std::uint64_t{device()} << 32) | device();
    }
    return options;
}

/// No more than the sampler looks at.
engine::Logits wanted_for(const engine::SamplingOptions& sampling, std::uint32_t candidates) {
    if (!(sampling.temperature > 0)) {
        return engine::Logits::greedy;
    }
    const bool few = sampling.top_k != 0 && sampling.top_k <= candidates;
    return few ? engine::Logits::top : engine::Logits::last;
}

bool begins_text(const Session& session, const TextModel& text) {
    return std::ranges::all_of(session.tokens,
                               [&](std::uint32_t id) { return text.is_control(id); });
}

}  // namespace

Generation::Generation(ClientId client, RequestId request, Clock::time_point arrived,
                       Generate options, Session& session, const TextModel& text,
                       std::uint32_t candidates)
    : Work(client, request, arrived),
      session_(&session),
      sampler_(with_seed(options.sampling)),
      wanted_(wanted_for(options.sampling, candidates)),
      stream_(text, std::move(options.stop), begins_text(session, text)),
      max_tokens_(options.max_tokens),
      eos_id_(options.ignore_eos ? -1 : text.eos_id()) {
    session.active = true;
    counts_.prompt_tokens = session.position();
    session.prepare_logits();
    counts_.cached_tokens = session.sequence->length();
}

Generation::~Generation() {
    session_->active = false;
}

std::uint32_t Generation::rows_wanted() {
    return static_cast<std::uint32_t>(session_->missing().size());
}

engine::Logits Generation::logits_of(std::uint32_t rows) {
    if (rows < rows_wanted()) {
        return engine::Logits::none;
    }
    return wanted_;
}

void Generation::advance(std::uint32_t rows, std::span<const float> logits,
                         std::vector<Outcome>& outcomes) {
    // It may have lost pages between its arrival and its first step.
    counts_.cached_tokens = std::min(counts_.cached_tokens, session_->sequence->length() - rows);
    if (!logits.empty()) {
        accept(sampler_.pick(logits), outcomes);
    }
}

void Generation::choose(std::span<const engine::Candidate> best, std::vector<Outcome>& outcomes) {
    accept(sampler_.pick_among(best), outcomes);
}

void Generation::accept(std::uint32_t id, std::vector<Outcome>& outcomes) {
    if (counts_.output_tokens++ == 0) {
        mark_first_token();
    }
    // There is room: a full session has finished before.
    session_->tokens.push_back(id);
    ++session_->tokens_generated;
    Piece piece = stream_.push(id);
    if (const m4_finish how = finish_after(id); how != M4_FINISH_NONE) {
        outcomes.push_back(finished_as(how, std::move(piece)));
    } else if (!piece.ids.empty() || !piece.text.empty()) {
        outcomes.emplace_back(std::move(piece));
    }
}

m4_finish Generation::finish_after(std::uint32_t id) const {
    if (eos_id_ >= 0 && id == static_cast<std::uint32_t>(eos_id_)) {
        return M4_FINISH_EOS;
    }
    if (stream_.stopped()) {
        return M4_FINISH_STOP;
    }
    if (max_tokens_ != 0 && counts_.output_tokens >= max_tokens_) {
        return M4_FINISH_LENGTH;
    }
    return full() ? M4_FINISH_CONTEXT : M4_FINISH_NONE;
}

Outcome Generation::finished_as(m4_finish how, Piece piece) {
    end();
    Piece rest = stream_.finish();
    piece.text += rest.text;
    piece.ids.insert(piece.ids.end(), rest.ids.begin(), rest.ids.end());
    return GenerateFinished{how, std::move(piece), usage_now()};
}

Outcome Generation::cancelled() {
    return finished_as(M4_FINISH_CANCELLED);
}

}  // namespace m4::sched
