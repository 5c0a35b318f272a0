// SPDX-License-Identifier: MIT
#include "sched/benchmark.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

namespace m4::sched {
namespace {

using Clock = std::chrono::steady_clock;

/// Samples of what is measured more than once, but for decoded tokens.
constexpr std::uint32_t kSamples = 7;

std::uint32_t chunks_of(std::uint32_t tokens, std::uint32_t rows) {
    return (tokens + rows - 1) / rows;
}

/// The one in the middle by `key`; `all` is not empty.
template <typename T, typename Key>
T median(std::vector<T> all, Key key) {
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
    std::ranges::nth_element(all, middle, {}, key);
    return *middle;
}

/// Of each kernel the sample in the middle: a hiccup meets one kernel of one profile.
engine::Profile median_profile(const std::vector<engine::Profile>& profiles) {
    engine::Profile middle = profiles.front();
    for (std::size_t i = 0; i < middle.kernels.size(); ++i) {
        std::vector<double> times;
        for (const engine::Profile& profile : profiles) {
            times.push_back(profile.kernels.at(i).us);
        }
        middle.kernels[i].us = median(times, std::identity{});
    }
    return middle;
}

}  // namespace

Benchmark::Benchmark(ClientId client, RequestId request, const RunBench& what, Backend& backend,
                     std::chrono::milliseconds budget)
    : client_(client), request_(request), what_(what), backend_(&backend), budget_(budget) {
    const std::uint32_t rows = backend.max_step_rows();
    passes_ = std::clamp(backend.most_passes(), 1U, what.tokens);
    slices_wanted_ = chunks_of(what.context, rows) + 1 + chunks_of(what.tokens, passes_) +
                     kSamples + (kSamples + 1) * chunks_of(what.prefill, rows) + kSamples;
    begin(Phase::fill);
}

std::uint32_t Benchmark::pages(const RunBench& what, const engine::KvUse& use) {
    return chunks_of(std::max(what.context + what.tokens, what.prefill), use.page_positions);
}

std::uint32_t Benchmark::rows_to(std::uint32_t length) const {
    return std::min(backend_->max_step_rows(), length - sequence_->length());
}

std::uint32_t Benchmark::passes() const {
    return std::min(passes_, what_.tokens - decoded_);
}

std::uint32_t Benchmark::pages_needed() const {
    switch (phase_) {
        case Phase::fill:
            return sequence_->pages_needed(rows_to(what_.context));
        case Phase::decode:
            return sequence_->pages_needed(passes());
        case Phase::profile:
            return sequence_->pages_needed(1);
        case Phase::prefill:
            return sequence_->pages_needed(rows_to(what_.prefill));
        case Phase::copy:
        case Phase::done:
            break;
    }
    return 0;
}

std::uint32_t Benchmark::percent() const {
    return std::min(100U, 100 * slices_ / slices_wanted_);
}

/// Of what is left to it: a slow device's tokens leave some time for the rest.
bool Benchmark::over() const {
    return spent_ >= (phase_ == Phase::decode    ? budget_ / 2
                      : phase_ == Phase::profile ? budget_ * 3 / 4
                                                 : budget_);
}

/// Each phase with a sequence of its own brings it; others go on with the last.
void Benchmark::begin(Phase phase) {
    phase_ = phase;
    warmed_ = false;
    if (phase == Phase::fill) {
        sequence_ = backend_->create_sequence(what_.context + what_.tokens);
    } else if (phase == Phase::profile) {
        sequence_->rewind(what_.context);
    } else if (phase == Phase::prefill) {
        sequence_.reset();
        sequence_ = backend_->create_sequence(what_.prefill);
    } else if (phase == Phase::copy) {
        sequence_.reset();
    }
}

double Benchmark::step(std::uint32_t rows, engine::Logits logits, std::uint32_t passes) {
    std::vector<std::uint32_t> tokens(rows);
    std::iota(tokens.begin(), tokens.end(), sequence_->length());
    std::ranges::for_each(tokens, [&](std::uint32_t& id) { id %= backend_->vocabulary(); });
    const engine::Chunk chunk{sequence_.get(), tokens, logits};
    const Clock::time_point begin = Clock::now();
    (void)backend_->step({&chunk, 1}, passes);
    return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

void Benchmark::run_slice() {
    const Clock::time_point begin = Clock::now();
    switch (phase_) {
        case Phase::fill:
            fill();
            break;
        case Phase::decode:
            decode();
            break;
        case Phase::profile:
            profile();
            break;
        case Phase::prefill:
            prefill();
            break;
        case Phase::copy:
            copy();
            break;
        case Phase::done:
            return;
    }
    ++slices_;
    spent_ += Clock::now() - begin;
}

void Benchmark::fill() {
    (void)step(rows_to(what_.context), engine::Logits::none);
    if (sequence_->length() == what_.context) {
        begin(Phase::decode);
    }
}

void Benchmark::decode() {
    const std::uint32_t tokens = passes();
    const double us = step(1, engine::Logits::greedy, tokens);
    if (!warmed_) {  // recorded, and maybe compiled, just now
        warmed_ = true;
        sequence_->rewind(what_.context);
        return;
    }
    decoded_ += tokens;
    token_us_.push_back(us / tokens);
    if (decoded_ == what_.tokens || over()) {
        cut_short_ = cut_short_ || decoded_ < what_.tokens;
        begin(Phase::profile);
    }
}

void Benchmark::profile() {
    const std::uint32_t token = what_.context % backend_->vocabulary();
    const engine::Chunk chunk{sequence_.get(), {&token, 1}, engine::Logits::greedy};
    profiles_.push_back(backend_->profile({&chunk, 1}));
    sequence_->rewind(what_.context);
    const std::uint32_t wanted = profiles_.back().timed ? kSamples : 1;
    if (profiles_.size() == wanted || over()) {
        cut_short_ = cut_short_ || profiles_.size() < wanted;
        begin(Phase::prefill);
    }
}

void Benchmark::prefill() {
    const std::uint32_t rows = rows_to(what_.prefill);
    const bool last = sequence_->length() + rows == what_.prefill;
    prompt_us_ += step(rows, last ? engine::Logits::greedy : engine::Logits::none);
    if (!last) {
        return;
    }
    sequence_->rewind(0);
    if (warmed_ || over()) {
        prefill_us_.push_back(prompt_us_);
    }
    warmed_ = true;
    prompt_us_ = 0;
    if (prefill_us_.size() == kSamples || over()) {
        cut_short_ = cut_short_ || prefill_us_.size() < kSamples;
        begin(Phase::copy);
    }
}

void Benchmark::copy() {
    copies_.push_back(backend_->time_copy());
    const std::uint32_t wanted = copies_.back().bytes != 0 ? kSamples : 1;
    if (copies_.size() >= wanted || over()) {
        cut_short_ = cut_short_ || copies_.size() < wanted;
        begin(Phase::done);
    }
}

BenchFigures Benchmark::figures() const {
    BenchFigures figures;
    figures.context = what_.context;
    figures.tokens = decoded_;
    figures.passes = passes_;
    figures.token_us = median(token_us_, std::identity{});
    figures.prefill = what_.prefill;
    figures.prefill_us = median(prefill_us_, std::identity{});
    figures.step_bytes = backend_->step_weight_bytes();
    const engine::CopyTime copied = median(copies_, &engine::CopyTime::us);
    figures.copy_bytes = copied.bytes;
    figures.copy_us = copied.us;
    figures.profile = median_profile(profiles_);
    figures.cut_short = cut_short_;
    return figures;
}

}  // namespace m4::sched
