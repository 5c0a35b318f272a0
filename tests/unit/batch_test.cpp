// SPDX-License-Identifier: MIT
// The parts of the scheduler: composing a step, matching stop texts, and the
// thread around the core.
#include <doctest/doctest.h>
#include <poll.h>

#include <map>
#include <stdexcept>
#include <string>
#include <variant>
#include <vector>

#include "fake_backend.hpp"
#include "sched/batch.hpp"
#include "sched/scheduler.hpp"
#include "sched/stop_matcher.hpp"
#include "sched/worker.hpp"

using namespace m4;
using sched::Candidate;
using sched::plan_step;

namespace {

Candidate decoder(std::size_t index, sched::ClientId client, std::uint64_t turn,
                  std::uint64_t client_turn) {
    return {index, client, true, 1, turn, client_turn};
}

Candidate prefiller(std::size_t index, sched::ClientId client, std::uint32_t rows,
                    std::uint64_t turn, std::uint64_t client_turn) {
    return {index, client, false, rows, turn, client_turn};
}

std::map<std::size_t, std::uint32_t> shares_of(const std::vector<Candidate>& candidates,
                                               std::uint32_t max_rows) {
    std::map<std::size_t, std::uint32_t> shares;
    std::uint32_t sum = 0;
    for (const sched::Share& share : plan_step(candidates, max_rows)) {
        CHECK(share.rows > 0);
        CHECK(shares.emplace(share.index, share.rows).second);
        sum += share.rows;
    }
    CHECK(sum <= max_rows);
    return shares;
}

using Shares = std::map<std::size_t, std::uint32_t>;

/// Completions until `wanted` of them are there.
std::vector<sched::Completion> await(sched::CompletionQueue& queue, std::size_t wanted) {
    std::vector<sched::Completion> all;
    while (all.size() < wanted) {
        pollfd ready{queue.fd(), POLLIN, 0};
        REQUIRE(poll(&ready, 1, 20'000) == 1);
        for (sched::Completion& completion : queue.drain()) {
            all.push_back(std::move(completion));
        }
    }
    return all;
}

}  // namespace

TEST_CASE("a step has a row for each who decodes and the rest for prefill") {
    CHECK(shares_of({}, 8).empty());
    CHECK(shares_of({decoder(0, 1, 3, 3), decoder(1, 2, 3, 3)}, 8) == Shares{{0, 1}, {1, 1}});
    CHECK(shares_of({decoder(0, 1, 3, 3), prefiller(1, 2, 100, 0, 0)}, 8) ==
          Shares{{0, 1}, {1, 7}});
    CHECK(shares_of({prefiller(0, 1, 3, 0, 0), prefiller(1, 2, 100, 0, 0)}, 8) ==
          Shares{{0, 3}, {1, 5}});
}

TEST_CASE("a quarter is kept for prefill, and who found no row is next") {
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < 10; ++i) {
        candidates.push_back(decoder(i, i + 1, 5, 5));
    }
    candidates[8].turn = candidates[8].client_turn = 4;
    candidates[9].turn = candidates[9].client_turn = 4;
    CHECK(shares_of(candidates, 8).size() == 8);
    CHECK(shares_of(candidates, 8).contains(8));
    CHECK(shares_of(candidates, 8).contains(9));
    candidates.push_back(prefiller(10, 11, 50, 0, 0));
    const auto shares = shares_of(candidates, 8);
    CHECK(shares.size() == 7);
    CHECK(shares.at(10) == 2);
    CHECK(shares.contains(8));
}

TEST_CASE("prefill goes by who waited longest, a client's second behind all firsts") {
    CHECK(shares_of({prefiller(0, 1, 8, 4, 4), prefiller(1, 2, 8, 3, 3)}, 8) == Shares{{1, 8}});
    // Client 1 has three, client 2 one: nobody is served by asking more often.
    CHECK(shares_of({prefiller(0, 1, 2, 0, 0), prefiller(1, 1, 2, 0, 0), prefiller(2, 1, 2, 0, 0),
                     prefiller(3, 2, 6, 0, 0)},
                    8) == Shares{{0, 2}, {3, 6}});
}

TEST_CASE("a stop text is found across pieces, and only its beginnings are held") {
    sched::StopMatcher matcher({"</s>", "stop"});
    CHECK(matcher.push("hello <") == "hello ");
    CHECK(matcher.holds());
    CHECK(matcher.push("b></") == "<b>");
    CHECK(matcher.push("st") == "</");
    CHECK(matcher.push("o") == "");
    CHECK(matcher.push("p and more") == "");
    CHECK(matcher.matched());
    CHECK(matcher.push("after") == "");

    sched::StopMatcher overlapping({"aab"});
    CHECK(overlapping.push("aaa") == "a");
    CHECK(overlapping.push("ab") == "a");
    CHECK(overlapping.matched());
    CHECK(overlapping.finish().empty());

    sched::StopMatcher none({});
    CHECK(none.push("all of it") == "all of it");
    CHECK(!none.holds());
}

TEST_CASE("the engine thread makes the backend and passes on why it cannot") {
    const test::ByteText text;
    sched::CompletionQueue queue;
    const auto broken = []() -> std::unique_ptr<sched::Backend> {
        throw engine::DeviceError("no device");
    };
    CHECK_THROWS_WITH_AS(sched::Scheduler(broken, text, {}, queue), "no device",
                         engine::DeviceError);
    const auto narrow = [] {
        test::FakeOptions options;
        options.max_step_rows = 3;
        return std::make_unique<test::FakeBackend>(options);
    };
    CHECK_THROWS_AS(sched::Scheduler(narrow, text, {}, queue), std::invalid_argument);
}

TEST_CASE("requests go in and outcomes come out by the queue") {
    const test::ByteText text;
    sched::CompletionQueue queue;
    auto gate = std::make_shared<test::Gate>();
    test::FakeOptions options;
    options.gate = gate;
    sched::Scheduler scheduler([&] { return std::make_unique<test::FakeBackend>(options); }, text,
                               {}, queue);
    scheduler.client_joined({1, 1000, 1, "test"});
    scheduler.submit(1, 1, sched::CreateSession{});
    const auto session = std::get<sched::SessionState>(await(queue, 1).front().outcome).session;
    CHECK(scheduler.snapshot().sessions == 1);
    scheduler.submit(1, 2, sched::AppendTokens{session, text.encode("abc", false)});
    sched::Generate generate;
    generate.session = session;
    generate.max_tokens = 5;
    scheduler.submit(1, 3, generate);
    const auto done = await(queue, 1 + 5);
    CHECK(std::get<sched::GenerateFinished>(done.back().outcome).finish == M4_FINISH_LENGTH);

    // A request is answered while a step is under way; only the step waits.
    gate->close();
    scheduler.submit(1, 4, sched::Score{{5, 6, 7}, 0});
    gate->await_arrival();
    CHECK(scheduler.step_age().count() >= 0);
    CHECK(scheduler.snapshot().requests_queued == 1);
    scheduler.cancel(1, 4);
    scheduler.submit(1, 5, generate);
    gate->open();
    bool scored = false;
    while (!scored) {
        for (const sched::Completion& completion : await(queue, 1)) {
            scored = scored || completion.request == 4;
        }
    }
    // Destroyed while a generation runs.
    generate.max_tokens = 0;
    generate.ignore_eos = true;
    scheduler.submit(1, 6, generate);
}

TEST_CASE("long texts are tokenised apart, jobs of who left are dropped") {
    const test::ByteText text;
    sched::CompletionQueue queue;
    sched::Worker worker("text", queue);
    worker.post(1, 1, [&] { return sched::Tokens{text.encode("abc", true)}; });
    worker.post(2, 7, [&] { return sched::Text{text.decode(text.encode("some text", false))}; });
    const auto done = await(queue, 2);
    CHECK(std::get<sched::Tokens>(done[0].outcome).ids == text.encode("abc", true));
    CHECK(std::get<sched::Text>(done[1].outcome).text == "some text");
    CHECK(done[1].client == 2);
    CHECK(done[1].request == 7);
    worker.forget(1);
}

TEST_CASE("an engine that nobody asks for anything warms up by itself") {
    test::FakeOptions options;
    options.warm_ups = 3;
    options.warmed = std::make_shared<std::promise<std::size_t>>();
    auto warmed = options.warmed->get_future();
    const test::ByteText text;
    sched::CompletionQueue completions;
    sched::Scheduler scheduler([&] { return std::make_unique<test::FakeBackend>(options); }, text,
                               {}, completions);
    REQUIRE(warmed.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    CHECK(warmed.get() == 0);
}

TEST_CASE("a warm-up without room is tried again when there may be some") {
    test::FakeOptions options;
    options.pool_pages = 1;
    options.warm_ups = 2;
    options.no_room = std::make_shared<std::promise<void>>();
    options.warmed = std::make_shared<std::promise<std::size_t>>();
    auto no_room = options.no_room->get_future();
    auto warmed = options.warmed->get_future();
    const test::ByteText text;
    sched::CompletionQueue completions;
    sched::Scheduler scheduler([&] { return std::make_unique<test::FakeBackend>(options); }, text,
                               {}, completions);
    scheduler.client_joined({1, 1000, 1, "test"});
    scheduler.submit(1, 1, sched::CreateSession{options.page_positions});
    const auto session = std::get<sched::SessionState>(await(completions, 1)[0].outcome).session;
    scheduler.submit(1, 2, sched::AppendTokens{session, text.encode("abc", false)});
    sched::Generate generate;
    generate.session = session;
    generate.max_tokens = 1;
    scheduler.submit(1, 3, generate);
    REQUIRE(no_room.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
    CHECK(scheduler.snapshot().cold == 2);
    scheduler.client_left(1);
    REQUIRE(warmed.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
}
