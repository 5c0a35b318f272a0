// SPDX-License-Identifier: MIT
// What the scheduler refuses, pauses and frees, and how it ends.
#include <doctest/doctest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "scheduler_bench.hpp"

using namespace m4;
using sched::Failure;
using sched::GenerateFinished;
using test::Bench;
using test::ByteText;
using test::FakeOptions;

namespace {

constexpr std::uint32_t kLong = 100;

}  // namespace

TEST_CASE("closing a session cancels what runs in it and frees its cache") {
    Bench bench;
    const auto session = bench.session(1, "abc", 64);
    const auto request = bench.generate(1, session, 0);
    bench.step();
    CHECK(bench.backend.kv_use().used == 1);
    const auto close = bench.ask(1, sched::CloseSession{session});
    (void)bench.only<sched::Acknowledged>(close);
    CHECK(bench.finish_of(request) == M4_FINISH_CANCELLED);
    CHECK(bench.backend.kv_use().used == 0);
    CHECK(!bench.step());
    CHECK(bench.only<Failure>(bench.ask(1, sched::CloseSession{session})).code == M4_E_NOT_FOUND);
}

TEST_CASE("a client that leaves takes everything with it") {
    Bench bench;
    const auto mine = bench.session(1, "abc");
    const auto request = bench.generate(1, mine, 0);
    const auto score =
        bench.ask(1, sched::Score{bench.text.encode(std::string(60, 's'), false), 2});
    bench.step();
    const auto before = bench.of(request).size() + bench.of(score).size();
    bench.core.client_left(1);
    CHECK(!bench.step());
    CHECK(bench.of(request).size() + bench.of(score).size() == before);
    CHECK(bench.backend.kv_use().used == 0);
    CHECK(bench.core.snapshot().sessions == 0);
}

TEST_CASE("who does not read is paused, others go on") {
    sched::Limits limits;
    limits.unread_bytes = 1000;
    Bench bench({}, limits);
    const auto stalled = bench.generate(1, bench.session(1, "stalled"), kLong);
    const auto reading = bench.generate(2, bench.session(2, "reading"), kLong);
    while (bench.step()) {
        bench.read_all(2);
    }
    CHECK(bench.finish_of(reading) == M4_FINISH_LENGTH);
    CHECK(bench.finish_of(stalled) == M4_FINISH_NONE);
    CHECK(bench.charged(1) >= 1000);
    CHECK(bench.charged(1) < 1200);
    const auto shown = bench.text_of(stalled).size();
    CHECK(shown < 20);

    bench.read_all(1);
    CHECK(bench.step());
    CHECK(bench.text_of(stalled).size() == shown + 1);
    while (bench.finished(stalled) == nullptr) {
        bench.read_all(1);
        bench.step();
    }
    CHECK(bench.text_of(stalled) == test::continuation(test::next_letter, "stalled", kLong));
}

TEST_CASE("a paused request can be cancelled") {
    sched::Limits limits;
    limits.unread_bytes = 200;
    Bench bench({}, limits);
    const auto request = bench.generate(1, bench.session(1, "x"), 0);
    bench.run();
    CHECK(bench.finished(request) == nullptr);
    bench.core.cancel(1, request);
    bench.step();
    CHECK(bench.finish_of(request) == M4_FINISH_CANCELLED);
}

TEST_CASE("quotas are refused with a reason and a time") {
    sched::Limits limits;
    limits.sessions_per_client = 3;
    limits.sessions_per_uid = 4;
    limits.sessions_total = 6;
    limits.requests_per_client = 2;
    limits.requests_per_uid = 3;
    limits.requests_total = 4;
    Bench bench({}, limits);
    bench.core.client_joined({9, 1001, 11, "second connection of client 1's user"});

    std::vector<sched::SessionId> mine;
    for (int i = 0; i < 3; ++i) {
        mine.push_back(bench.session(1, "a"));
    }
    CHECK(bench.only<Failure>(bench.ask(1, sched::CreateSession{})).code == M4_E_QUOTA);
    const auto other = bench.session(9, "b");
    CHECK(bench.only<Failure>(bench.ask(9, sched::CreateSession{})).code == M4_E_QUOTA);
    const auto theirs = bench.session(2, "c");
    bench.session(3, "d");
    CHECK(bench.only<Failure>(bench.ask(4, sched::CreateSession{})).code == M4_E_BUSY);

    bench.generate(1, mine[0], 3);
    bench.generate(1, mine[1], 3);
    const auto refused = bench.only<Failure>(bench.generate(1, mine[2], 3));
    CHECK(refused.code == M4_E_QUOTA);
    CHECK(refused.retry_after_ms >= 10);
    CHECK(!refused.message.empty());
    bench.generate(9, other, 3);
    const sched::Score score{bench.text.encode("abc", false), 0};
    CHECK(bench.only<Failure>(bench.ask(9, score)).code == M4_E_QUOTA);
    bench.generate(2, theirs, 3);
    const auto busy = bench.only<Failure>(bench.ask(3, score));
    CHECK(busy.code == M4_E_BUSY);
    CHECK(busy.retry_after_ms >= 10);
    bench.run();
    bench.only<Failure>(bench.generate(1, 999, 1));
    const auto now = bench.generate(1, mine[2], 3);
    bench.run();
    CHECK(bench.finish_of(now) == M4_FINISH_LENGTH);
}

TEST_CASE("one generation a session, and no change meanwhile") {
    Bench bench;
    const auto session = bench.session(1, "abc");
    const auto running = bench.generate(1, session, 3);
    CHECK(bench.only<Failure>(bench.generate(1, session, 1)).code == M4_E_BUSY);
    CHECK(bench.only<Failure>(bench.ask(1, sched::AppendTokens{session, {5}})).code == M4_E_BUSY);
    CHECK(bench.only<Failure>(bench.ask(1, sched::TruncateSession{session, 0})).code == M4_E_BUSY);
    bench.run();
    CHECK(bench.text_of(running) == test::continuation(test::next_letter, "abc", 3));
    (void)bench.only<sched::SessionState>(bench.ask(1, sched::TruncateSession{session, 0}));
    CHECK(bench.only<Failure>(bench.generate(1, session, 1)).code == M4_E_INVALID);
}

TEST_CASE("what is not a client's is not found; what makes no sense is invalid") {
    Bench bench;
    const auto session = bench.session(1, "abc");
    CHECK(bench.only<Failure>(bench.ask(2, sched::InspectSession{session})).code == M4_E_NOT_FOUND);
    CHECK(bench.only<Failure>(bench.ask(2, sched::CloseSession{session})).code == M4_E_NOT_FOUND);
    CHECK(bench.only<Failure>(bench.generate(2, session, 1)).code == M4_E_NOT_FOUND);
    const auto unknown = bench.ask(1, sched::AppendTokens{session, {5, ByteText::kVocabulary}});
    CHECK(bench.only<Failure>(unknown).code == M4_E_INVALID);
    for (const float bad : {-1.0F, std::numeric_limits<float>::quiet_NaN()}) {
        sched::Generate what;
        what.session = session;
        what.sampling.temperature = bad;
        CHECK(bench.only<Failure>(bench.ask(1, what)).code == M4_E_INVALID);
        what.sampling.temperature = 0;
        what.sampling.top_p = bad;
        CHECK(bench.only<Failure>(bench.ask(1, what)).code == M4_E_INVALID);
    }
}

TEST_CASE("sessions are listed for their user, all for root") {
    Bench bench;
    bench.core.client_joined({7, 0, 1, "root"});
    bench.core.client_joined({8, 1001, 1, "same user as client 1"});
    const auto session = bench.session(1, "abc", 32);
    bench.session(2, "de");
    bench.generate(1, session, 0);
    const auto own = bench.only<sched::SessionTable>(bench.ask(8, sched::ListSessions{}));
    REQUIRE(own.rows.size() == 1);
    CHECK(own.rows[0].session == session);
    CHECK(own.rows[0].position == 3);
    CHECK(own.rows[0].capacity == 32);
    CHECK(own.rows[0].active);
    CHECK(own.rows[0].client_name == "bench");
    CHECK(bench.only<sched::SessionTable>(bench.ask(7, sched::ListSessions{})).rows.size() == 2);
    CHECK(bench.only<sched::SessionTable>(bench.ask(4, sched::ListSessions{})).rows.empty());
}

TEST_CASE("the loss of the device ends everything that runs") {
    Bench bench;
    const auto session = bench.session(1, "abc");
    const auto request = bench.generate(1, session, 0);
    const auto score = bench.ask(2, sched::Score{{5, 6, 7}, 0});
    bench.backend.lose();
    bench.step();
    CHECK(std::get<Failure>(bench.of(request).back()).code == M4_E_GPU_LOST);
    CHECK(bench.only<Failure>(score).code == M4_E_GPU_LOST);
    CHECK(std::holds_alternative<sched::DeviceLost>(bench.of(0).back()));
    CHECK(!bench.step());
    CHECK(bench.only<Failure>(bench.ask(3, sched::CreateSession{})).code == M4_E_GPU_LOST);
}

TEST_CASE("who warms up may find the device lost") {
    FakeOptions options;
    options.warm_ups = 2;
    Bench bench(options);
    CHECK(bench.core.warm_up());
    const auto session = bench.session(1, "abc");
    bench.backend.lose();
    CHECK(!bench.core.warm_up());
    CHECK(bench.core.completions().size() == 1);
    CHECK(bench.only<Failure>(bench.generate(1, session, 1)).code == M4_E_GPU_LOST);
    CHECK(!bench.core.warm_up());
}

TEST_CASE("a lost image ends what computes, and what only looks goes on") {
    Bench bench;
    const auto session = bench.session(1, "abc");
    const auto request = bench.generate(1, session, 0);
    const auto score = bench.ask(2, sched::Score{{5, 6, 7}, 0});
    SUBCASE("found by a step, whose results are not used") {
        bench.backend.revoke();
        bench.step();
    }
    SUBCASE("told from outside, twice") {
        bench.core.revoke("the fake image is revoked");
        bench.core.revoke("again");
        CHECK(!bench.step());
    }
    CHECK(bench.of(request).size() == 1);
    CHECK(bench.only<Failure>(request).code == M4_E_VERIFY);
    CHECK(bench.only<Failure>(request).message == "the fake image is revoked");
    CHECK(bench.only<Failure>(score).code == M4_E_VERIFY);
    CHECK(bench.only<sched::ImageRevoked>(0).message == "the fake image is revoked");
    CHECK(!bench.step());
    CHECK(bench.only<Failure>(bench.ask(3, sched::CreateSession{})).code == M4_E_VERIFY);
    CHECK(bench.only<Failure>(bench.generate(1, session, 5)).code == M4_E_VERIFY);
    CHECK(bench.only<sched::Snapshot>(bench.ask(1, sched::ReadFigures{})).sessions == 1);
    CHECK(bench.only<sched::SessionTable>(bench.ask(1, sched::ListSessions{})).rows.size() == 1);
    (void)bench.only<sched::Acknowledged>(bench.ask(1, sched::CloseSession{session}));
    CHECK(bench.only<sched::Snapshot>(bench.ask(1, sched::ReadFigures{})).sessions == 0);
}

TEST_CASE("a stopping service refuses what is new and ends what runs") {
    Bench bench;
    const auto session = bench.session(1, "abc");
    const auto request = bench.generate(1, session, 0);
    bench.step();
    bench.core.refuse_new();
    CHECK(bench.only<Failure>(bench.ask(2, sched::CreateSession{})).code == M4_E_UNAVAILABLE);
    CHECK(bench.step());
    bench.core.cancel_all();
    CHECK(!bench.step());
    CHECK(bench.finish_of(request) == M4_FINISH_CANCELLED);
    CHECK(bench.only<Failure>(bench.generate(1, session, 1)).code == M4_E_UNAVAILABLE);
}
