// SPDX-License-Identifier: MIT
// Adapters in the scheduler: the fake engine shifts what comes next by the adapter, and
// fails where keys of one are read by another.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "scheduler_bench.hpp"

namespace m4::test {

namespace {

using sched::AdapterChoice;
using sched::AdapterSource;
using sched::Generate;
using sched::SessionId;

/// Shifts by `shift`, and takes so many bytes of the pool.
AdapterChoice make_adapter(std::uint8_t name, std::uint32_t shift, std::size_t bytes = 100) {
    auto source = std::make_shared<AdapterSource>();
    source->digest.fill(name);
    auto data = std::make_shared<std::vector<std::byte>>(bytes);
    engine::LowRankPair pair;
    pair.rank = 1;
    pair.scale = static_cast<float>(shift);
    pair.a = *data;
    source->pairs.push_back(pair);
    source->keep = data;
    return {source->digest, source};
}

AdapterChoice bare() {
    return {sched::AdapterDigest{}, nullptr};
}

/// What greedy generation gives where each token is `shift` past the rule's.
std::string shifted(std::string_view prompt, std::size_t count, std::uint32_t shift) {
    const ByteText text;
    std::vector<std::uint32_t> history = text.encode(prompt, false);
    std::string made;
    for (std::size_t i = 0; i < count; ++i) {
        history.push_back(next_letter(history) + shift);
        made += static_cast<char>(history.back() - ByteText::kFirstByte);
    }
    return made;
}

sched::RequestId generate(Bench& bench, sched::ClientId client, SessionId session,
                          std::uint32_t tokens, const AdapterChoice& adapter) {
    Generate what;
    what.session = session;
    what.max_tokens = tokens;
    what.adapter = adapter;
    return bench.ask(client, std::move(what));
}

SessionId session_with(Bench& bench, sched::ClientId client, std::string_view prompt,
                       const AdapterChoice& adapter) {
    sched::CreateSession create;
    create.adapter = adapter;
    const auto made = bench.ask(client, std::move(create));
    const SessionId id = bench.only<sched::SessionState>(made).session;
    (void)bench.ask(client, sched::AppendTokens{id, bench.text.encode(prompt, false)});
    return id;
}

}  // namespace

TEST_CASE("adapters: one step serves sessions with different ones and with none") {
    Bench bench;
    const auto one = make_adapter(1, 1);
    const auto two = make_adapter(2, 2);
    const SessionId a = session_with(bench, 1, "first", one);
    const SessionId b = session_with(bench, 2, "second", two);
    const SessionId c = bench.session(3, "third");
    const auto of_a = generate(bench, 1, a, 6, {});
    const auto of_b = generate(bench, 2, b, 6, {});
    const auto of_c = generate(bench, 3, c, 6, {});
    bench.run();
    CHECK(bench.text_of(of_a) == shifted("first", 6, 1));
    CHECK(bench.text_of(of_b) == shifted("second", 6, 2));
    CHECK(bench.text_of(of_c) == shifted("third", 6, 0));
    CHECK(std::ranges::any_of(bench.backend.steps(), [](const StepRecord& step) {
        return step.adapters == 2 && step.parts.size() == 3;
    }));
}

TEST_CASE("adapters: keys and values of one are never another's") {
    Bench bench;
    const auto one = make_adapter(1, 1);
    const auto two = make_adapter(2, 2);
    const SessionId session = bench.session(1, "a prompt that is used again");
    std::string so_far = "a prompt that is used again";
    for (const auto& [adapter, shift] :
         {std::pair{one, 1U}, {two, 2U}, {bare(), 0U}, {one, 1U}, {AdapterChoice{}, 0U}}) {
        const auto request = generate(bench, 1, session, 3, adapter);
        bench.run();
        REQUIRE(bench.finish_of(request) == M4_FINISH_LENGTH);
        CHECK(bench.text_of(request) == shifted(so_far, 3, shift));
        CHECK(bench.finished(request)->usage.cached_tokens == 0);
        so_far += bench.text_of(request);
    }
    // The same once more goes on with what it has.
    const auto request = generate(bench, 1, session, 3, {});
    bench.run();
    CHECK(bench.finished(request)->usage.cached_tokens == so_far.size() - 1);
}

TEST_CASE("adapters: one of the same name and other bytes is another") {
    Bench bench;
    const SessionId session = bench.session(1, "prompt");
    auto old_one = make_adapter(1, 1);
    auto new_one = make_adapter(2, 5);
    CHECK(old_one.source->name == new_one.source->name);
    const auto before = generate(bench, 1, session, 2, old_one);
    bench.run();
    const auto after = generate(bench, 1, session, 2, new_one);
    bench.run();
    CHECK(bench.text_of(before) == shifted("prompt", 2, 1));
    CHECK(bench.text_of(after) == shifted("prompt" + shifted("prompt", 2, 1), 2, 5));
}

TEST_CASE("adapters: a clone goes on with its original's") {
    Bench bench;
    const SessionId session = session_with(bench, 1, "original", make_adapter(1, 3));
    const auto warm = generate(bench, 1, session, 1, {});
    bench.run();
    const auto cloned = bench.ask(1, sched::CloneSession{session});
    const SessionId clone = bench.only<sched::SessionState>(cloned).session;
    const auto request = generate(bench, 1, clone, 3, {});
    bench.run();
    CHECK(bench.text_of(request) == shifted("original" + bench.text_of(warm), 3, 3));
    CHECK(bench.finished(request)->usage.cached_tokens > 0);
}

TEST_CASE("adapters: no step has more of them than their pool holds, and all end") {
    FakeOptions options;
    options.adapter_pool_bytes = 250;
    Bench bench(options);
    std::vector<sched::RequestId> requests;
    for (std::uint8_t i = 1; i <= 4; ++i) {
        const SessionId session = session_with(bench, i, "crowd", make_adapter(i, i, 100));
        requests.push_back(generate(bench, i, session, 5, {}));
    }
    bench.run();
    for (std::uint32_t i = 0; i < requests.size(); ++i) {
        CAPTURE(i);
        CHECK(bench.text_of(requests[i]) == shifted("crowd", 5, i + 1));
    }
    for (const StepRecord& step : bench.backend.steps()) {
        CHECK(step.adapters <= 2);
    }
}

TEST_CASE("adapters: one that is larger than the pool, or that the engine refuses") {
    FakeOptions options;
    options.adapter_pool_bytes = 50;
    Bench bench(options);
    const SessionId session = bench.session(1, "x");
    const auto large = generate(bench, 1, session, 1, make_adapter(1, 1, 51));
    const auto failure = bench.only<sched::Failure>(large);
    CHECK(failure.code == M4_E_TOO_LARGE);
    CHECK(failure.message.find("51 bytes") != std::string::npos);
    auto broken = make_adapter(2, 1, 10);
    auto source = std::make_shared<AdapterSource>(*broken.source);
    source->pairs[0].rank = 0;
    broken.source = source;
    CHECK(bench.only<sched::Failure>(generate(bench, 1, session, 1, broken)).code == M4_E_INTERNAL);
    FakeOptions full;
    full.no_adapter_memory = true;
    Bench without(full);
    const SessionId other = without.session(1, "y");
    CHECK(
        without.only<sched::Failure>(generate(without, 1, other, 1, make_adapter(3, 1, 10))).code ==
        M4_E_NO_MEMORY);
    const auto goes_on = generate(without, 1, other, 2, {});
    without.run();
    CHECK(without.text_of(goes_on) == shifted("y", 2, 0));

    // The session is as it was.
    const auto plain = generate(bench, 1, session, 2, {});
    bench.run();
    CHECK(bench.text_of(plain) == shifted("x", 2, 0));
}

TEST_CASE("adapters: scores are made with them, and sessions load them ahead") {
    Bench bench;
    const auto adapter = make_adapter(1, 1);
    sched::Score score;
    score.ids = bench.text.encode("score", false);
    score.top_n = 1;
    score.adapter = adapter;
    const auto request = bench.ask(1, score);
    bench.run();
    const auto* rows = std::get_if<sched::ScoreRows>(&bench.of(request).front());
    REQUIRE(rows != nullptr);
    const auto history = bench.text.encode("score", false);
    CHECK(rows->top_ids[0] == next_letter(std::span(history).first(1)) + 1);

    (void)session_with(bench, 1, "x", adapter);
    CHECK(bench.core.snapshot().adapter_use.loads == 1);
    const auto figures = bench.core.snapshot().adapters;
    REQUIRE(figures.size() == 1);
    CHECK(figures[0].sessions == 1);
    CHECK(figures[0].resident);
}

}  // namespace m4::test
