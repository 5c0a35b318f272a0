// SPDX-License-Identifier: MIT
// What is done before anybody waits for it: kernels run once, tunings measured.
#include <algorithm>
#include <chrono>
#include <limits>

#include "engine_impl.hpp"

namespace m4::engine {

namespace {

/// Rows that stand for a batch where tunings are measured.
constexpr std::uint32_t kBatchRows = 8;

}  // namespace

void Engine::Impl::end_cold() {
    if (plan->context.cold) {
        plan->context.cold = false;
        recorded.clear();
    }
}

std::unique_ptr<TunedPlan> Engine::Impl::make_plan(ops::Tuning tuning) {
    tuning.fuse = fuse;
    tuning.linear_address = tuning.linear_address || addresses;
    tuning.chain = std::min(chain == 0 ? tuning.chain : chain, ops::StepWords::kMostPasses);
    tuning.attention_slices = slices == 0 ? tuning.attention_slices : slices;
    const ops::Context context{.pipelines = pipelines,
                               .limits = device.limits(),
                               .tuning = tuning,
                               .words = words,
                               .kv_dtype = kv_dtype,
                               .values_texel = memory.values_texel(),
                               .kv_texel = memory.kv_texel(),
                               .page_positions = pool.page_positions(),
                               .pool_positions = pool.pages() * pool.page_positions(),
                               .scratch_unit = values.scratch_unit,
                               .scratch_units = values.scratch_units,
                               .low_rank_unit = values.low_rank_unit,
                               .covered = &covered,
                               .cold = true};
    return std::make_unique<TunedPlan>(device, context, program, image.tensors(), weights, values,
                                       kv, logits_value, candidates_each);
}

/// A step of `rows` rows, a few times over: the least time, in us.
double Engine::Impl::time_step(std::uint32_t rows) {
    using Clock = std::chrono::steady_clock;
    constexpr int kTimes = 5;
    const auto sequence = create_warm_sequence(rows);
    const std::vector<std::uint32_t> tokens(rows, 0);
    const Chunk chunk{sequence.get(), tokens, Logits::last};
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i <= kTimes; ++i) {
        sequence->rewind(0);
        const Clock::time_point begin = Clock::now();
        step({&chunk, 1});
        const std::chrono::duration<double, std::micro> took = Clock::now() - begin;
        least = i == 0 ? least : std::min(least, took.count());  // the first one compiles
    }
    return least;
}

/// Measures the next tuning with whole steps, a row of a decode and of a batch
/// counting alike, and keeps its plan if none was better.
void Engine::Impl::try_tuning() {
    std::unique_ptr<TunedPlan> other;
    try {
        other = make_plan(tunings.next()->tuning);
    } catch (const DeviceError&) {
        tunings.measured(std::numeric_limits<double>::infinity());  // more than the device can do
        return;
    }
    other->context.cold = false;
    std::swap(plan, other);
    recorded.clear();
    const double time = time_step(1) + time_step(kBatchRows) / kBatchRows;
    if (!tunings.measured(time)) {
        std::swap(plan, other);
        recorded.clear();
    }
}

/// The rows of the next step that is still to be run for its kernels' sake; 0:
/// none is, or the pool has no room for it.
std::uint32_t Engine::Impl::next_warm_rows() const {
    if (warmed == kWarmRows.size()) {
        return 0;
    }
    const std::uint32_t rows = std::min({kWarmRows[warmed], max_rows, part.context_length});
    return pages_of_sequence(rows) > pool.free() ? 0 : rows;
}

/// Whatever lies in its pages is its memory: nobody sees what is computed of it.
std::unique_ptr<KvSequence> Engine::Impl::create_warm_sequence(std::uint32_t rows) {
    auto sequence = create_sequence(rows);
    sequence->take_memory();
    sequence->remember(part.memory_rows);
    return sequence;
}

/// Drivers may compile as late as at a kernel's first dispatch: so it is run.
bool Engine::Impl::warm_up() {
    if (const std::uint32_t rows = next_warm_rows(); rows != 0) {
        if (++warmed == kWarmRows.size()) {
            end_cold();
        }
        const auto sequence = create_warm_sequence(rows);
        const std::vector<std::uint32_t> tokens(rows, 0);
        std::vector<Logits> kinds = {Logits::all, Logits::greedy};  // and argmax
        if (force_candidates || plan->context.tuning.top_on_device) {
            kinds.push_back(Logits::top);
        }
        for (const Logits wanted : kinds) {
            const Chunk chunk{sequence.get(), tokens, wanted};
            step({&chunk, 1});
            sequence->rewind(0);
        }
    } else if (warmed == kWarmRows.size() && tunings.next() != nullptr &&
               std::min(max_rows, part.context_length) >= kBatchRows &&
               pages_of_sequence(kBatchRows) <= pool.free()) {
        try_tuning();
    } else {
        return false;
    }
    pipelines.save_cache();  // some drivers fill it at first use
    return warm_ups_left() != 0;
}

std::uint32_t Engine::Impl::warm_ups_left() const {
    const bool wide = std::min(max_rows, part.context_length) >= kBatchRows;
    return static_cast<std::uint32_t>(kWarmRows.size() - warmed + (wide ? tunings.left() : 0));
}

}  // namespace m4::engine
