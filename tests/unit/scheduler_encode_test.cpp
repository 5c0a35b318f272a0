// SPDX-License-Identifier: MIT
// Encode requests in the scheduler: what runs together, who waits for whom, and rows
// of other senses in sessions.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "scheduler_bench.hpp"

using namespace m4;
using sched::Encode;
using sched::Encoded;
using sched::EncodeOutput;
using sched::Failure;
using test::Bench;
using test::FakeBackend;
using test::FakeOptions;

namespace {

/// Inputs of one item each; item i is i + 1, four times.
Encode items(std::uint32_t count, std::uint32_t part = 1) {
    Encode what;
    what.part = part;
    what.items.assign(count, 1);
    for (std::uint32_t i = 0; i < count; ++i) {
        what.features.insert(what.features.end(), FakeBackend::kItemFloats,
                             static_cast<float>(i + 1));
    }
    return what;
}

constexpr std::uint32_t kProjector = 9;

/// An input whose embedding is (4 value, 1), behind a session's tokens.
Encode into(sched::SessionId session, float value) {
    Encode what = items(1);
    what.features.assign(FakeBackend::kItemFloats, value);
    what.target = Encode::Target{session, kProjector, 2};
    return what;
}

}  // namespace

TEST_CASE("encode: inputs in runs of what goes together, results input by input") {
    Bench bench;
    const auto request = bench.ask(1, items(19));
    CHECK(bench.core.snapshot().requests_queued == 1);
    CHECK(bench.core.snapshot().senses_bytes == 77);
    bench.run();
    const auto encoded = bench.only<Encoded>(request);
    CHECK(encoded.inputs == 19);
    REQUIRE(encoded.values.size() == 38);
    for (std::size_t i = 0; i < 19; ++i) {
        CHECK(encoded.values[2 * i] == static_cast<float>(4 * (i + 1)));
        CHECK(encoded.values[2 * i + 1] == 1.0F);
    }
    CHECK(bench.backend.runs() == std::vector<std::size_t>{8, 8, 3});
    CHECK(bench.core.snapshot().requests_active == 0);
}

TEST_CASE("encode: an input of several items is their mean") {
    Bench bench;
    Encode what = items(10);
    what.items = {3, 1, 6};  // 1 2 3 | 4 | 5 .. 10
    const auto embedding = bench.ask(1, what);
    what.output = EncodeOutput::scores;
    const auto scores = bench.ask(1, what);
    bench.run();
    const auto means = bench.only<Encoded>(embedding);
    REQUIRE(means.values.size() == 6);
    CHECK(means.values[0] == doctest::Approx(4 * 2));
    CHECK(means.values[2] == 4 * 4);
    CHECK(means.values[4] == doctest::Approx(4 * 7.5));
    const auto each = bench.only<Encoded>(scores);
    REQUIRE(each.values.size() == 12);
    CHECK(each.values[0] == doctest::Approx(2));
    CHECK(each.values[11] == doctest::Approx(7.5));
}

TEST_CASE("encode: clients who want the same part share its runs, others take turns") {
    Bench bench;
    const auto first = bench.ask(1, items(3));
    const auto other = bench.ask(2, items(2, 5));
    const auto second = bench.ask(3, items(4));
    bench.run();
    CHECK(bench.backend.runs() == std::vector<std::size_t>{7, 2});
    CHECK(bench.only<Encoded>(first).values[4] == 12);
    CHECK(bench.only<Encoded>(second).values[6] == 16);
    CHECK(bench.only<Encoded>(other).values[1] == 5);
    // A long request does not keep a short one waiting for its end.
    const auto lengthy = bench.ask(1, items(40));
    const auto brief = bench.ask(2, items(1, 5));
    bench.step();
    bench.step();
    CHECK(bench.of(lengthy).empty());
    CHECK(bench.only<Encoded>(brief).inputs == 1);
    bench.run();
    CHECK(bench.only<Encoded>(lengthy).inputs == 40);
}

TEST_CASE("encode: texts run apart from features") {
    Bench bench;
    Encode text;
    text.part = 1;
    text.items = {1, 1};
    text.tokens = {10, 11, 12, 20, 21, 22};
    text.picked = {1, 2};
    const auto request = bench.ask(1, text);
    const auto features = bench.ask(2, items(1));
    bench.run();
    CHECK(bench.only<Encoded>(request).values == std::vector<float>{11, 1, 22, 1});
    CHECK(bench.only<Encoded>(features).values == std::vector<float>{4, 1});
    CHECK(bench.backend.runs() == std::vector<std::size_t>{2, 1});
}

TEST_CASE("encode: generations go on between its runs") {
    Bench bench;
    const auto session = bench.session(1, "once");
    const auto story = bench.generate(1, session, 5);
    const auto encode = bench.ask(2, items(40));
    for (int i = 0; i < 3; ++i) {
        bench.step();
    }
    CHECK(bench.ids_of(story).size() == 3);
    bench.run();
    CHECK(bench.only<Encoded>(encode).inputs == 40);
    CHECK(bench.finish_of(story) == M4_FINISH_LENGTH);
}

TEST_CASE("encode: a projector's rows stand behind a session's tokens") {
    Bench bench;
    const auto session = bench.session(1, "look: ");
    const auto appended = bench.ask(1, into(session, 3));
    // The session is taken until the rows are there.
    const auto early = bench.ask(1, sched::AppendTokens{session, {5}});
    CHECK(bench.only<Failure>(early).code == M4_E_BUSY);
    bench.run();
    CHECK(bench.only<sched::SessionState>(appended).position == 6 + 2);
    (void)bench.only<sched::SessionState>(
        bench.ask(1, sched::AppendTokens{session, bench.text.encode("!", false)}));
    auto history = bench.text.encode("look: ", false);
    const std::vector<float> row = {12, 1};
    const std::vector<float> twice = {24, 2};
    history.push_back(FakeBackend::token_of(row));
    history.push_back(FakeBackend::token_of(twice));
    history.push_back(bench.text.encode("!", false)[0]);
    const std::string prompt = bench.text.decode(history);
    const auto wanted = test::continuation(test::next_letter, prompt, 6);
    CHECK(bench.text_of([&] {
        const auto request = bench.generate(1, session, 6);
        bench.run();
        return request;
    }()) == wanted);

    SUBCASE("a clone has them, and they are cut with their positions") {
        (void)bench.ask(1, sched::TruncateSession{session, 9});
        const auto cloned = bench.ask(1, sched::CloneSession{session});
        const auto clone = bench.only<sched::SessionState>(cloned).session;
        const auto again = bench.generate(1, clone, 6);
        bench.run();
        CHECK(bench.text_of(again) == wanted);
        // Without the second row another token stands in its place.
        (void)bench.ask(1, sched::TruncateSession{session, 7});
        (void)bench.ask(1, sched::AppendTokens{session, bench.text.encode("x", false)});
        const auto other = bench.generate(1, session, 6);
        bench.run();
        std::vector<std::uint32_t> short_history(history.begin(), history.begin() + 7);
        short_history.push_back(bench.text.encode("x", false)[0]);
        CHECK(bench.text_of(other) ==
              test::continuation(test::next_letter, bench.text.decode(short_history), 6));
    }
    SUBCASE("what has no room is refused beforehand") {
        const auto small = bench.session(1, "12345", 6);
        const auto refused = bench.ask(1, into(small, 1));
        CHECK(bench.only<Failure>(refused).code == M4_E_CONTEXT_FULL);
        CHECK(bench.backend.runs().size() == 2);
    }
}

TEST_CASE("encode: who cancels, closes or leaves frees what was taken") {
    Bench bench;
    const auto session = bench.session(1, "abc");
    const auto cancelled = bench.ask(1, into(session, 1));
    bench.core.cancel(1, cancelled);
    CHECK(bench.step() == false);
    CHECK(bench.only<Failure>(cancelled).code == M4_E_CANCELLED);
    (void)bench.only<sched::SessionState>(bench.ask(1, sched::TruncateSession{session, 1}));
    const auto closed = bench.ask(1, into(session, 1));
    bench.step();
    (void)bench.ask(1, sched::CloseSession{session});
    CHECK(bench.only<Failure>(closed).code == M4_E_CANCELLED);
    const auto lonely = bench.ask(2, items(20));
    bench.step();
    bench.core.client_left(2);
    CHECK(bench.step() == false);
    CHECK(bench.of(lonely).empty());
}

TEST_CASE("encode: too many requests of a client, a lost device, a lost image") {
    Bench bench;
    std::vector<sched::RequestId> requests;
    for (int i = 0; i < 9; ++i) {
        requests.push_back(bench.ask(1, items(1)));
    }
    CHECK(bench.only<Failure>(requests.back()).code == M4_E_QUOTA);
    SUBCASE("device") {
        bench.backend.lose();
        bench.step();
        CHECK(bench.only<Failure>(requests.front()).code == M4_E_GPU_LOST);
    }
    SUBCASE("image") {
        bench.core.revoke("gone");
        CHECK(!bench.step());
        CHECK(bench.only<Failure>(requests.front()).code == M4_E_VERIFY);
        CHECK(bench.only<Failure>(bench.ask(2, items(1))).code == M4_E_VERIFY);
    }
}

TEST_CASE("encode: requests of every kind count together") {
    sched::Limits limits;
    limits.requests_per_client = 2;
    limits.requests_per_uid = 3;
    limits.requests_total = 4;
    Bench bench({}, limits);
    bench.core.client_joined({7, 1001, 10, "the first one's uid"});
    const auto session = bench.session(1, "abc");
    (void)bench.generate(1, session, 5);
    const auto second = bench.ask(1, items(1));
    CHECK(bench.of(second).empty());
    CHECK(bench.only<Failure>(bench.ask(1, items(1))).code == M4_E_QUOTA);
    CHECK(bench.only<Failure>(bench.ask(1, sched::Score{{5, 6}, 0})).code == M4_E_QUOTA);
    CHECK(bench.of(bench.ask(7, items(1))).empty());
    CHECK(bench.only<Failure>(bench.ask(7, items(1))).code == M4_E_QUOTA);
    CHECK(bench.of(bench.ask(2, items(1))).empty());
    CHECK(bench.only<Failure>(bench.ask(3, items(1))).code == M4_E_BUSY);
    bench.run();
    CHECK(bench.of(bench.ask(3, items(1))).empty());
}

TEST_CASE("encode: what prepared inputs take is bounded, by user and in all") {
    constexpr std::uint64_t kItemBytes = FakeBackend::kItemFloats * sizeof(float);
    sched::Limits limits;
    limits.features_per_uid = 10 * kItemBytes;
    limits.features_total = 15 * kItemBytes;
    Bench bench({}, limits);
    bench.core.client_joined({7, 1001, 10, "the first one's uid"});
    CHECK(bench.only<Failure>(bench.ask(1, items(11))).code == M4_E_QUOTA);
    const auto first = bench.ask(1, items(6));
    CHECK(bench.of(first).empty());
    const auto more = bench.only<Failure>(bench.ask(7, items(5)));
    CHECK(more.code == M4_E_QUOTA);
    CHECK(more.retry_after_ms > 0);
    CHECK(bench.of(bench.ask(7, items(4))).empty());
    CHECK(bench.only<Failure>(bench.ask(2, items(6))).code == M4_E_BUSY);
    bench.run();
    CHECK(bench.only<Encoded>(first).inputs == 6);
    CHECK(bench.of(bench.ask(2, items(6))).empty());
}

TEST_CASE("encode: rows in a client's sessions are bounded") {
    sched::Limits limits;
    limits.row_bytes_per_client = 5 * FakeBackend::kRowColumns * sizeof(float);
    Bench bench({}, limits);
    const auto session = bench.session(1, "a");
    const auto other = bench.session(1, "b");
    for (const auto into_session : {session, other}) {
        const auto appended = bench.ask(1, into(into_session, 1));
        bench.run();
        CHECK(bench.only<sched::SessionState>(appended).position == 3);
    }
    CHECK(bench.only<Failure>(bench.ask(1, into(session, 1))).code == M4_E_QUOTA);
    // Not another's business; and what is cut is free again.
    const auto theirs = bench.session(2, "c");
    const auto appended = bench.ask(2, into(theirs, 1));
    bench.run();
    CHECK(bench.only<sched::SessionState>(appended).position == 3);
    (void)bench.ask(1, sched::TruncateSession{other, 1});
    const auto again = bench.ask(1, into(session, 1));
    bench.run();
    CHECK(bench.only<sched::SessionState>(again).position == 5);
}

TEST_CASE("encode: of an image without a backbone nothing else is computed") {
    FakeOptions options;
    options.context_length = 0;
    Bench bench(options);
    CHECK(bench.only<Failure>(bench.ask(1, sched::CreateSession{})).code == M4_E_UNSUPPORTED);
    CHECK(bench.only<Failure>(bench.ask(1, sched::Score{{1, 2}, 0})).code == M4_E_UNSUPPORTED);
    const auto request = bench.ask(1, items(2));
    bench.run();
    CHECK(bench.only<Encoded>(request).inputs == 2);
    (void)bench.only<sched::SessionTable>(bench.ask(1, sched::ListSessions{}));
}
