// SPDX-License-Identifier: MIT
// The bench: who may run it, when its slices come, and when it makes room.
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "sched/core.hpp"

namespace m4::sched {
namespace {

std::string pages_text(const engine::KvUse& use) {
    return std::to_string(use.free()) + " of " + std::to_string(use.pages) +
           " pages of the KV cache are free";
}

}  // namespace

Core::Admission Core::admit_bench(const ClientState& client, const RunBench& what) const {
    const uid_t own = ::geteuid();
    if (client.who.uid != 0 && client.who.uid != own) {
        return Failure{M4_E_PERMISSION,
                       "the bench takes the device's time from everybody: only root and uid " +
                           std::to_string(own) + ", the service's, may run it",
                       0};
    }
    if (refusing_) {
        return Failure{M4_E_UNAVAILABLE, "the service is stopping", 0};
    }
    if (bench_ != nullptr) {
        return Failure{M4_E_BUSY, "another bench is running", retry_after_ms()};
    }
    const std::uint64_t longest = backend_->context_length();
    if (std::uint64_t{what.context} + what.tokens > longest || what.prefill > longest) {
        return Failure{M4_E_TOO_LARGE,
                       "the model's context is " + std::to_string(longest) +
                           " tokens: the bench wants " + std::to_string(what.context) + " and " +
                           std::to_string(what.tokens) + " to decode, and a prompt of " +
                           std::to_string(what.prefill),
                       0};
    }
    if (what.tokens > limits_.bench_tokens) {
        return Failure{
            M4_E_TOO_LARGE,
            "a bench decodes at most " + std::to_string(limits_.bench_tokens) + " tokens", 0};
    }
    const engine::KvUse use = backend_->kv_use();
    if (const std::uint32_t pages = Benchmark::pages(what, use); pages > use.free()) {
        const bool never = pages > use.pages;
        return Failure{
            never ? M4_E_TOO_LARGE : M4_E_BUSY,
            "the bench needs " + std::to_string(pages) + " pages, and " + pages_text(use),
            never ? 0 : retry_after_ms()};
    }
    return std::nullopt;
}

void Core::handle(const ClientState& client, RequestId request, RunBench what) {
    what.context = what.context == 0 ? kBenchContext : what.context;
    what.tokens = what.tokens == 0 ? kBenchTokens : what.tokens;
    what.prefill = what.prefill == 0 ? kBenchPrefill : what.prefill;
    if (Admission refusal = admit_bench(client, what)) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    bench_ = std::make_unique<Benchmark>(client.who.id, request, what, *backend_,
                                         std::chrono::milliseconds(limits_.bench_ms));
}

/// At most one step's worth; others' steps come in between. False: no bench.
bool Core::bench_slice() {
    if (bench_ == nullptr) {
        return false;
    }
    const engine::KvUse use = backend_->kv_use();
    if (bench_->pages_needed() > use.free()) {
        end_bench(Failure{M4_E_BUSY, "the bench needs more room, and " + pages_text(use),
                          retry_after_ms()});
        return true;
    }
    const std::uint32_t before = bench_->percent();
    try {
        bench_->run_slice();
    } catch (const std::invalid_argument& error) {
        end_bench(Failure{M4_E_INTERNAL, error.what(), 0});  // the engine is as it was
        return true;
    }
    if (bench_->done()) {
        end_bench(bench_->figures());
    } else if (bench_->stuck()) {
        end_bench(Failure{M4_E_TIMEOUT,
                          "the bench's " + std::to_string(limits_.bench_ms / 1000) +
                              " s went before its context was computed: ask for a shorter one",
                          0});
    } else if (const std::uint32_t percent = bench_->percent(); percent != before) {
        emit(bench_->client(), bench_->request(), BenchProgress{percent});
    }
    return true;
}

/// Its pages are free on return.
void Core::end_bench(Outcome outcome) {
    if (bench_ != nullptr) {
        emit(bench_->client(), bench_->request(), std::move(outcome));
        bench_.reset();
    }
}

}  // namespace m4::sched
