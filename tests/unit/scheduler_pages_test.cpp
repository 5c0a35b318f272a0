// SPDX-License-Identifier: MIT
// Pages of the KV cache: clones, and who gets pages where they are few.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "scheduler_bench.hpp"

using namespace m4;
using sched::Failure;
using test::Bench;
using test::FakeOptions;

namespace {

FakeOptions pool_of(std::uint32_t pages) {
    FakeOptions options;
    options.pool_pages = pages;
    return options;
}

std::string wanted(std::string_view prompt, std::size_t count) {
    return test::continuation(test::next_letter, prompt, count);
}

sched::SessionId clone(Bench& bench, sched::ClientId client, sched::SessionId session) {
    return bench.only<sched::SessionState>(bench.ask(client, sched::CloneSession{session})).session;
}

}  // namespace

TEST_CASE("pages: taken as a context grows, free when it shrinks or closes") {
    Bench bench;
    const auto used = [&] { return bench.core.snapshot().kv.used; };
    const auto session = bench.session(1, std::string(20, 'a'));
    CHECK(used() == 0);
    bench.generate(1, session, 6);
    bench.run();
    CHECK(used() == 4);  // 25 tokens, 8 a page; the last was never fed
    bench.ask(1, sched::TruncateSession{session, 16});
    CHECK(used() == 2);
    bench.generate(1, session, 2);
    bench.run();
    CHECK(used() == 3);
    bench.ask(1, sched::CloseSession{session});
    CHECK(used() == 0);
    CHECK(bench.core.snapshot().kv.pages == 512);
}

TEST_CASE("a clone goes on as its original would, over the same pages") {
    Bench bench;
    const std::string prompt = "a prompt for two";
    const auto original = bench.session(1, prompt);
    const auto first = bench.generate(1, original, 5);
    bench.run();
    REQUIRE(bench.core.snapshot().kv.used == 3);  // 20 tokens
    const auto copy = clone(bench, 1, original);
    CHECK(bench.core.snapshot().kv.used == 3);
    CHECK(bench.core.snapshot().kv.shared == 3);
    CHECK(bench.core.snapshot().sessions == 2);
    const auto state = bench.ask(1, sched::InspectSession{copy});
    CHECK(bench.only<sched::SessionState>(state).position == 21);
    CHECK(bench.only<sched::SessionState>(state).capacity == 256);

    const std::string so_far = prompt + bench.text_of(first);
    const auto here = bench.generate(1, original, 9);
    const auto there = bench.generate(1, copy, 9);
    bench.run();
    CHECK(bench.text_of(here) == wanted(so_far, 9));
    CHECK(bench.text_of(there) == wanted(so_far, 9));
    CHECK(bench.finished(there)->usage.cached_tokens == 20);
    // Two full pages are shared still; each has the third and the fourth.
    CHECK(bench.core.snapshot().kv.shared == 2);
    CHECK(bench.core.snapshot().kv.used == 6);

    SUBCASE("another way each") {
        bench.ask(1, sched::AppendTokens{copy, bench.text.encode("!", false)});
        const auto left = bench.generate(1, original, 4);
        const auto right = bench.generate(1, copy, 4);
        bench.run();
        const std::string both = so_far + bench.text_of(here);
        CHECK(bench.text_of(left) == wanted(both, 4));
        CHECK(bench.text_of(right) == wanted(both + "!", 4));
    }
    SUBCASE("the original closes") {
        bench.ask(1, sched::CloseSession{original});
        CHECK(bench.core.snapshot().kv.used == 4);
        CHECK(bench.core.snapshot().kv.shared == 0);
        const auto on = bench.generate(1, copy, 3);
        bench.run();
        CHECK(bench.text_of(on) == wanted(so_far + bench.text_of(there), 3));
    }
    SUBCASE("the clone closes") {
        bench.ask(1, sched::CloseSession{copy});
        CHECK(bench.core.snapshot().kv.used == 4);
        const auto on = bench.generate(1, original, 3);
        bench.run();
        CHECK(bench.text_of(on) == wanted(so_far + bench.text_of(here), 3));
    }
    SUBCASE("one goes back into what is shared") {
        bench.ask(1, sched::TruncateSession{copy, 12});
        bench.ask(1, sched::AppendTokens{copy, bench.text.encode("??", false)});
        const auto back = bench.generate(1, copy, 3);
        const auto on = bench.generate(1, original, 3);
        bench.run();
        CHECK(bench.text_of(back) == wanted(prompt.substr(0, 12) + "??", 3));
        CHECK(bench.text_of(on) == wanted(so_far + bench.text_of(here), 3));
    }
    bench.core.client_left(1);
    CHECK(bench.backend.kv_use().used == 0);
}

TEST_CASE("clones are admitted as sessions are") {
    sched::Limits limits;
    limits.sessions_per_client = 2;
    Bench bench({}, limits);
    const auto session = bench.session(1, "abc");
    CHECK(bench.only<Failure>(bench.ask(2, sched::CloneSession{session})).code == M4_E_NOT_FOUND);
    const auto running = bench.generate(1, session, 2);
    CHECK(bench.only<Failure>(bench.ask(1, sched::CloneSession{session})).code == M4_E_BUSY);
    bench.run();
    CHECK(bench.finish_of(running) == M4_FINISH_LENGTH);
    const auto copy = clone(bench, 1, session);
    CHECK(copy != session);
    CHECK(bench.only<Failure>(bench.ask(1, sched::CloneSession{session})).code == M4_E_QUOTA);
}

TEST_CASE("pages: what is larger than all of the pool is refused at once") {
    Bench bench(pool_of(4));
    const auto refused = bench.only<Failure>(bench.ask(1, sched::CreateSession{33}));
    CHECK(refused.code == M4_E_TOO_LARGE);
    CHECK(refused.message == "the KV cache has room for 32 tokens in all, not for 33");
    CHECK(bench.only<Failure>(bench.ask(1, sched::CreateSession{})).code == M4_E_TOO_LARGE);
    const std::vector<std::uint32_t> ids(33, 5);
    CHECK(bench.only<Failure>(bench.ask(1, sched::Score{ids, 0})).code == M4_E_TOO_LARGE);
    bench.session(1, "fits", 32);
}

TEST_CASE("pages: idle sessions give way, the least recently used first") {
    Bench bench(pool_of(6));
    const auto kept_of = [&](sched::SessionId session, std::string_view prompt) {
        // What of it is still held: a generation of one token tells.
        const auto request = bench.generate(1, session, 1);
        bench.run();
        CHECK(bench.text_of(request) == wanted(prompt, 1));
        return bench.finished(request)->usage.cached_tokens;
    };
    const std::string a(16, 'a');
    const std::string b(16, 'b');
    const auto old = bench.session(1, a, 48);
    const auto newer = bench.session(1, b, 48);
    bench.generate(1, old, 1);
    bench.run();
    bench.generate(1, newer, 1);
    bench.run();
    REQUIRE(bench.core.snapshot().kv.used == 4);
    // Three pages: two are free, the third is the older session's last.
    const auto large = bench.session(2, std::string(24, 'c'), 48);
    const auto request = bench.generate(2, large, 1);
    bench.run();
    CHECK(bench.text_of(request) == wanted(std::string(24, 'c'), 1));
    CHECK(bench.core.snapshot().kv.used == 6);
    SUBCASE("all of the newer one is there") {
        CHECK(kept_of(newer, b + wanted(b, 1)) == 16);
    }
    SUBCASE("half of the older one is") {
        CHECK(kept_of(old, a + wanted(a, 1)) == 8);
    }
}

TEST_CASE("pages: an idle session keeps what it shares with a running one as long as it can") {
    Bench bench(pool_of(6));
    const std::string prompt(16, 'p');
    const auto base = bench.session(1, prompt, 48);
    bench.generate(1, base, 1);
    bench.run();
    const auto copy = clone(bench, 1, base);
    const auto other = bench.session(1, std::string(16, 'q'), 48);
    bench.generate(1, other, 1);
    bench.run();
    REQUIRE(bench.core.snapshot().kv.used == 4);
    // 40 tokens in all: the two shared, the two free, one of the other's.
    const auto request = bench.generate(1, copy, 24);
    bench.run();
    CHECK(bench.text_of(request) == wanted(prompt + wanted(prompt, 1), 24));
    const auto again = bench.generate(1, base, 1);
    bench.run();
    CHECK(bench.finished(again)->usage.cached_tokens == 16);
}

TEST_CASE("pages: requests that together need more than there is all end as they would alone") {
    for (const std::uint32_t pages : {5U, 6U, 7U, 9U, 12U}) {
        CAPTURE(pages);
        Bench bench(pool_of(pages));
        std::vector<sched::RequestId> requests;
        std::vector<std::string> prompts;
        for (sched::ClientId client = 1; client <= 4; ++client) {
            for (const char letter : {'x', 'y'}) {
                prompts.push_back(std::string(3 * client, letter));
                const auto session = bench.session(client, prompts.back(), 40);
                requests.push_back(bench.generate(client, session, 20));
            }
        }
        const auto ids = bench.text.encode(std::string(37, 's'), false);
        const auto score = bench.ask(3, sched::Score{ids, 0});
        std::size_t steps = 0;
        while (bench.step()) {
            REQUIRE(++steps < 2000);
            // Whatever happens, the first in rank goes on.
        }
        for (std::size_t i = 0; i < requests.size(); ++i) {
            CHECK(bench.text_of(requests[i]) == wanted(prompts[i], 20));
            CHECK(bench.finish_of(requests[i]) == M4_FINISH_LENGTH);
        }
        REQUIRE(std::holds_alternative<sched::ScoreFinished>(bench.of(score).back()));
    }
}

TEST_CASE("pages: the first request is never held up by those after it") {
    Bench bench(pool_of(5));
    const auto first = bench.session(1, "first", 40);
    const auto leading = bench.generate(1, first, 35);
    bench.step();
    const auto second = bench.session(2, "second", 40);
    const auto following = bench.generate(2, second, 34);
    std::size_t steps = 1;
    while (bench.finished(leading) == nullptr) {
        REQUIRE(bench.step());
        ++steps;
    }
    CHECK(steps == 35);  // a token each
    bench.run();
    CHECK(bench.text_of(leading) == wanted("first", 35));
    CHECK(bench.text_of(following) == wanted("second", 34));
}

TEST_CASE("pages: who does not read gives way, and goes on when it reads") {
    sched::Limits limits;
    limits.unread_bytes = 1500;  // some 15 pieces
    Bench bench(pool_of(5), limits);
    const auto slow = bench.session(1, "slow", 40);
    const auto stalled = bench.generate(1, slow, 30);
    while (bench.step()) {
    }
    REQUIRE(bench.finished(stalled) == nullptr);
    REQUIRE(bench.core.snapshot().kv.used >= 2);
    const auto quick = bench.session(2, "quick", 40);
    const auto request = bench.generate(2, quick, 35);
    while (bench.step()) {
        bench.read_all(2);
    }
    CHECK(bench.text_of(request) == wanted("quick", 35));
    CHECK(bench.finished(stalled) == nullptr);
    SUBCASE("and reads at last") {
        while (bench.finished(stalled) == nullptr) {
            bench.read_all(1);
            REQUIRE(bench.step());
        }
        CHECK(bench.text_of(stalled) == wanted("slow", 30));
    }
    SUBCASE("or reads while another runs: then it is behind that one") {
        const auto third = bench.session(3, "third", 40);
        const auto running = bench.generate(3, third, 34);
        bench.step();
        while (bench.finished(running) == nullptr) {
            bench.read_all(1);
            bench.read_all(3);
            REQUIRE(bench.step());
        }
        CHECK(bench.text_of(running) == wanted("third", 34));
        while (bench.finished(stalled) == nullptr) {
            bench.read_all(1);
            REQUIRE(bench.step());
        }
        CHECK(bench.text_of(stalled) == wanted("slow", 30));
    }
}

TEST_CASE("pages: what nobody will free is said, not waited for") {
    Bench bench(pool_of(3));
    // Pages that no session of the scheduler holds.
    const auto stranger = bench.backend.create_sequence(24);
    const std::vector<std::uint32_t> tokens(24, 5);
    for (const std::size_t at : {0U, 8U, 16U}) {
        const engine::Chunk chunk{stranger.get(), std::span(tokens).subspan(at, 8),
                                  engine::Logits::none};
        (void)bench.backend.step({&chunk, 1}, 1);
    }
    const auto request = bench.generate(1, bench.session(1, "abc", 24), 3);
    CHECK(bench.step());
    const auto failure = bench.only<Failure>(request);
    CHECK(failure.code == M4_E_BUSY);
    CHECK(failure.retry_after_ms > 0);
    CHECK(failure.message ==
          "no room in the KV cache: 3 of 3 pages are in use and none can be taken back");
    CHECK(!bench.step());
}
