// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "sched/backend.hpp"
#include "sched/completion.hpp"
#include "sched/request.hpp"

namespace m4::sched {

/// What a bench measures where it is not told otherwise.
inline constexpr std::uint32_t kBenchContext = 16;
inline constexpr std::uint32_t kBenchTokens = 32;
inline constexpr std::uint32_t kBenchPrefill = 64;

/// A bench from its admission to its figures, in slices of one step, profile or
/// copy each, so that others' steps come in between. Its sequences take pages
/// that are free, never anybody's. Engine thread only.
class Benchmark {
   public:
    /// `what` has no zeros and fits the model; `budget` is the device's time after
    /// which it takes no further sample where it has one.
    Benchmark(ClientId client, RequestId request, const RunBench& what, Backend& backend,
              std::chrono::milliseconds budget);

    [[nodiscard]] ClientId client() const { return client_; }
    [[nodiscard]] RequestId request() const { return request_; }

    /// Pages that it comes to hold at a time, at most.
    [[nodiscard]] static std::uint32_t pages(const RunBench& what, const engine::KvUse& use);
    /// Free pages that the next slice takes.
    [[nodiscard]] std::uint32_t pages_needed() const;

    /// Throws as Backend::step() does.
    void run_slice();
    [[nodiscard]] bool done() const { return phase_ == Phase::done; }
    /// The budget went before its context was there: nothing comes of it.
    [[nodiscard]] bool stuck() const { return phase_ == Phase::fill && over(); }
    [[nodiscard]] std::uint32_t percent() const;
    /// Once it is done.
    [[nodiscard]] BenchFigures figures() const;

   private:
    enum class Phase : std::uint8_t { fill, decode, profile, prefill, copy, done };

    void fill();
    void decode();
    void profile();
    void prefill();
    void copy();
    void begin(Phase phase);
    [[nodiscard]] bool over() const;
    /// Rows of the next chunk on the way to `length` tokens.
    [[nodiscard]] std::uint32_t rows_to(std::uint32_t length) const;
    [[nodiscard]] std::uint32_t passes() const;
    /// Appends `rows` tokens; how long that took, in us.
    double step(std::uint32_t rows, engine::Logits logits, std::uint32_t passes = 1);

    ClientId client_;
    RequestId request_;
    RunBench what_;
    Backend* backend_;
    std::chrono::nanoseconds budget_;
    std::chrono::nanoseconds spent_{0};
    Phase phase_ = Phase::fill;
    std::uint32_t slices_ = 0;
    std::uint32_t slices_wanted_ = 0;
    bool warmed_ = false;  ///< one sample of this phase ran and does not count
    bool cut_short_ = false;
    std::unique_ptr<engine::Sequence> sequence_;
    std::vector<double> token_us_;
    std::uint32_t decoded_ = 0;
    std::uint32_t passes_ = 1;
    std::vector<engine::Profile> profiles_;
    std::vector<double> prefill_us_;
    double prompt_us_ = 0;  ///< of the prompt in hand
    std::vector<engine::CopyTime> copies_;
};

}  // namespace m4::sched
