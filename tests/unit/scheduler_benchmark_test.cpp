// SPDX-License-Identifier: MIT
// The bench in the scheduler: who may run it, in turns with whom, and how it ends.
#include <doctest/doctest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "scheduler_bench.hpp"

using namespace m4;
using sched::BenchFigures;
using sched::BenchProgress;
using sched::Failure;
using sched::RunBench;
using test::Bench;
using test::FakeOptions;

namespace {

constexpr sched::ClientId kRoot = 5;

sched::RequestId ask_bench(Bench& bench, const RunBench& what = {}) {
    bench.core.client_joined({kRoot, 0, 10, "root"});
    return bench.ask(kRoot, what);
}

FakeOptions options_with(std::uint32_t passes, std::uint32_t pool_pages = 512) {
    FakeOptions options;
    options.passes = passes;
    options.pool_pages = pool_pages;
    return options;
}

/// Its last outcome.
template <typename T>
const T& last(Bench& bench, sched::RequestId request) {
    REQUIRE(!bench.of(request).empty());
    REQUIRE(std::holds_alternative<T>(bench.of(request).back()));
    return std::get<T>(bench.of(request).back());
}

}  // namespace

TEST_CASE("a bench measures everything and leaves nothing behind") {
    for (const std::uint32_t passes : {1U, 4U}) {
        CAPTURE(passes);
        Bench bench(options_with(passes));
        const auto request = ask_bench(bench, {20, 10, 30});
        CHECK(bench.core.snapshot().requests_active == 1);
        bench.run();
        std::uint32_t percent = 0;
        for (std::size_t i = 0; i + 1 < bench.of(request).size(); ++i) {
            REQUIRE(std::holds_alternative<BenchProgress>(bench.of(request)[i]));
            const auto now = std::get<BenchProgress>(bench.of(request)[i]).percent;
            CHECK(now > percent);
            CHECK(now <= 100);
            percent = now;
        }
        CHECK(percent >= 90);
        const auto& figures = last<BenchFigures>(bench, request);
        CHECK(figures.context == 20);
        CHECK(figures.tokens == 10);
        CHECK(figures.passes == passes);
        CHECK(figures.token_us > 0);
        CHECK(figures.prefill == 30);
        CHECK(figures.prefill_us > 0);
        CHECK(figures.step_bytes == 500);
        CHECK(figures.copy_bytes == 1000);
        CHECK(figures.copy_us == 2.0);
        CHECK(figures.profile.timed);
        REQUIRE(figures.profile.kernels.size() == 1);
        CHECK(figures.profile.kernels[0].us == 3.5);
        CHECK_FALSE(figures.cut_short);
        CHECK(bench.backend.kv_use().used == 0);
        CHECK(bench.core.snapshot().requests_active == 0);
        CHECK(bench.core.snapshot().sessions == 0);
        CHECK_FALSE(bench.step());
    }
}

TEST_CASE("a bench is for root and the service's own user") {
    Bench bench;
    const uid_t own = ::geteuid();
    bench.core.client_joined({6, own, 10, "own"});
    bench.core.client_joined({7, own + 1, 10, "other"});
    const auto refused = bench.only<Failure>(bench.ask(7, RunBench{}));
    CHECK(refused.code == M4_E_PERMISSION);
    CHECK(refused.message ==
          "the bench takes the device's time from everybody: only root and uid " +
              std::to_string(own) + ", the service's, may run it");
    CHECK_FALSE(bench.step());
    const auto request = bench.ask(6, RunBench{});
    CHECK(bench.of(request).empty());
    CHECK(bench.only<Failure>(ask_bench(bench)).message == "another bench is running");
    bench.run();
    CHECK(last<BenchFigures>(bench, request).tokens == sched::kBenchTokens);
}

TEST_CASE("a bench over a limit is refused") {
    sched::Limits limits;
    limits.bench_tokens = 40;
    Bench bench(options_with(1, 16), limits);
    CHECK(bench.only<Failure>(ask_bench(bench, {250, 7, 0})).code == M4_E_TOO_LARGE);
    CHECK(bench.only<Failure>(ask_bench(bench, {0xffffffff, 7, 0})).code == M4_E_TOO_LARGE);
    CHECK(bench.only<Failure>(ask_bench(bench, {1, 1, 257})).code == M4_E_TOO_LARGE);
    CHECK(bench.only<Failure>(ask_bench(bench, {1, 41, 1})).message ==
          "a bench decodes at most 40 tokens");
    const auto over_pool = bench.only<Failure>(ask_bench(bench, {128, 1, 1}));
    CHECK(over_pool.code == M4_E_TOO_LARGE);
    CHECK(over_pool.message ==
          "the bench needs 17 pages, and 16 of 16 pages of the KV cache are free");
    bench.core.refuse_new();
    CHECK(bench.only<Failure>(ask_bench(bench)).code == M4_E_UNAVAILABLE);
}

TEST_CASE("requests go on between a bench's slices, and say the same") {
    Bench bench;
    const auto session = bench.session(1, "in turns");
    const auto generation = bench.generate(1, session, 60);
    const auto request = ask_bench(bench);
    const auto steps_before = bench.backend.steps().size();
    for (int i = 0; i < 10; ++i) {
        CHECK(bench.step());
    }
    // One step of each, again and again.
    CHECK(bench.backend.steps().size() == steps_before + 20);
    bench.run();
    CHECK(bench.text_of(generation) == test::continuation(test::next_letter, "in turns", 60));
    (void)last<BenchFigures>(bench, request);
}

TEST_CASE("a bench takes no page from anybody, and gives its own") {
    Bench bench(options_with(1, 8));
    SUBCASE("idle sessions keep theirs") {
        const auto session = bench.session(1, std::string(40, 'x'), 64);
        const auto first = bench.generate(1, session, 1);
        bench.run();
        CHECK(bench.finish_of(first) == M4_FINISH_LENGTH);
        const auto used = bench.backend.kv_use().used;
        const auto refused = bench.only<Failure>(ask_bench(bench, {30, 4, 8}));
        CHECK(refused.code == M4_E_BUSY);
        CHECK(refused.message ==
              "the bench needs 5 pages, and 3 of 8 pages of the KV cache are free");
        CHECK(bench.backend.kv_use().used == used);
    }
    SUBCASE("a request that needs them has them") {
        const auto request = ask_bench(bench, {30, 4, 8});
        for (int i = 0; i < 6; ++i) {
            CHECK(bench.step());
        }
        CHECK(bench.backend.kv_use().used >= 4);
        const auto generation = bench.generate(1, bench.session(1, std::string(40, 'x'), 64), 20);
        bench.run();
        CHECK(bench.text_of(generation) ==
              test::continuation(test::next_letter, std::string(40, 'x'), 20));
        const auto& failure = last<Failure>(bench, request);
        CHECK(failure.code == M4_E_BUSY);
        CHECK(failure.message == "requests need the bench's room in the KV cache: try again later");
    }
}

TEST_CASE("a bench ends when it is told to, with its client, and with the device") {
    Bench bench;
    const auto request = ask_bench(bench);
    CHECK(bench.step());
    SUBCASE("cancelled") {
        bench.core.cancel(1, request);  // not theirs
        CHECK(bench.step());
        bench.core.cancel(kRoot, request);
        CHECK_FALSE(bench.step());
        CHECK(last<Failure>(bench, request).code == M4_E_CANCELLED);
    }
    SUBCASE("all cancelled") {
        bench.core.cancel_all();
        CHECK_FALSE(bench.step());
        CHECK(last<Failure>(bench, request).code == M4_E_CANCELLED);
    }
    SUBCASE("its client left") {
        const auto before = bench.of(request).size();
        bench.core.client_left(kRoot);
        CHECK_FALSE(bench.step());
        CHECK(bench.of(request).size() == before);
    }
    SUBCASE("the device is lost") {
        bench.backend.lose();
        CHECK(bench.step());
        CHECK(last<Failure>(bench, request).code == M4_E_GPU_LOST);
        CHECK_FALSE(bench.step());
    }
    SUBCASE("the image is revoked") {
        bench.backend.revoke();
        CHECK(bench.step());
        CHECK(last<Failure>(bench, request).code == M4_E_VERIFY);
    }
    CHECK(bench.backend.kv_use().used == 0);
}

TEST_CASE("a bench's time is bounded") {
    sched::Limits limits;
    limits.bench_ms = 0;
    Bench bench({}, limits);
    SUBCASE("one sample of each comes whatever it takes") {
        const auto request = ask_bench(bench, {8, 30, 20});
        bench.run();
        const auto& figures = last<BenchFigures>(bench, request);
        CHECK(figures.cut_short);
        CHECK(figures.tokens == 1);
        CHECK(figures.prefill_us > 0);
        CHECK(figures.copy_us == 2.0);
    }
    SUBCASE("but not a context without end") {
        const auto request = ask_bench(bench, {9, 30, 20});
        bench.run();
        const auto& failure = last<Failure>(bench, request);
        CHECK(failure.code == M4_E_TIMEOUT);
        CHECK(failure.message ==
              "the bench's 0 s went before its context was computed: ask for a shorter one");
    }
}
