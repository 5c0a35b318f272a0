// SPDX-License-Identifier: MIT
// Generation and scoring over a fake engine: exact results, shared steps, how
// requests end. Steps are run by the test, one at a time.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/sampler.hpp"
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

TEST_CASE("generation continues the context and appends to it") {
    Bench bench;
    const auto session = bench.session(1, "once upon");
    const auto request = bench.generate(1, session, 12);
    bench.run();
    CHECK(bench.finish_of(request) == M4_FINISH_LENGTH);
    CHECK(bench.text_of(request) == test::continuation(test::next_letter, "once upon", 12));
    CHECK(bench.ids_of(request) == bench.text.encode(bench.text_of(request), false));
    const auto usage = bench.finished(request)->usage;
    CHECK(usage.prompt_tokens == 9);
    CHECK(usage.cached_tokens == 0);
    CHECK(usage.output_tokens == 12);
    CHECK(usage.ttft_us >= usage.queue_us);
    CHECK(usage.total_us >= usage.ttft_us);
    const auto info = bench.ask(1, sched::InspectSession{session});
    CHECK(bench.only<sched::SessionState>(info).position == 21);
    CHECK(bench.core.snapshot().tokens_generated == 12);
    CHECK(bench.core.snapshot().tokens_prompt == 9);
}

TEST_CASE("a second generation computes only what is new") {
    Bench bench;
    const auto session = bench.session(1, "once upon");
    const auto first = bench.generate(1, session, 5);
    bench.run();
    const auto more =
        bench.ask(1, sched::AppendTokens{session, bench.text.encode(" a time", false)});
    CHECK(bench.only<sched::SessionState>(more).position == 21);
    const auto second = bench.generate(1, session, 3);
    bench.run();
    const auto usage = bench.finished(second)->usage;
    CHECK(usage.prompt_tokens == 21);
    CHECK(usage.cached_tokens == 13);  // the fifth token was never fed
    CHECK(bench.text_of(second) ==
          test::continuation(test::next_letter, "once upon" + bench.text_of(first) + " a time", 3));
}

TEST_CASE("truncation keeps the leading keys and values") {
    Bench bench;
    const auto session = bench.session(1, "abcdefghij");
    bench.generate(1, session, 4);
    bench.run();
    const auto cut = bench.ask(1, sched::TruncateSession{session, 6});
    CHECK(bench.only<sched::SessionState>(cut).position == 6);
    const auto request = bench.generate(1, session, 4);
    bench.run();
    CHECK(bench.finished(request)->usage.cached_tokens == 5);
    CHECK(bench.text_of(request) == test::continuation(test::next_letter, "abcdef", 4));
    const auto beyond = bench.ask(1, sched::TruncateSession{session, 11});
    CHECK(bench.only<Failure>(beyond).code == M4_E_INVALID);
    // Another branch after the same prefix.
    bench.ask(1, sched::TruncateSession{session, 3});
    bench.ask(1, sched::AppendTokens{session, bench.text.encode("xyz", false)});
    const auto branch = bench.generate(1, session, 4);
    bench.run();
    CHECK(bench.text_of(branch) == test::continuation(test::next_letter, "abcxyz", 4));
}

TEST_CASE("requests join and leave between steps and keep their own results") {
    Bench bench;
    std::vector<std::pair<sched::RequestId, std::string>> wanted;
    for (std::uint32_t client = 1; client <= 4; ++client) {
        const std::string prompt =
            "client " + std::to_string(client) + std::string(client * 7, '.');
        const auto session = bench.session(client, prompt);
        wanted.emplace_back(bench.generate(client, session, 10 + client),
                            test::continuation(test::next_letter, prompt, 10 + client));
        bench.step();
    }
    bench.run();
    for (const auto& [request, text] : wanted) {
        CHECK(bench.text_of(request) == text);
        CHECK(bench.finish_of(request) == M4_FINISH_LENGTH);
    }
    const auto& steps = bench.backend.steps();
    CHECK(std::ranges::any_of(steps, [](const auto& step) { return step.parts.size() >= 3; }));
}

TEST_CASE("a long prompt never blocks who decodes") {
    Bench bench;
    const auto quick = bench.session(1, "hi");
    const auto talking = bench.generate(1, quick, kLong);
    bench.step();
    REQUIRE(bench.of(talking).size() == 1);
    const auto slow = bench.session(2, std::string(119, 'x'));
    const auto reading = bench.generate(2, slow, 1);
    std::size_t steps = 0;
    while (bench.finished(reading) == nullptr) {
        REQUIRE(bench.step());
        ++steps;
        // One token a step, whatever else it holds.
        CHECK(bench.of(talking).size() == 1 + steps);
        CHECK(bench.backend.steps().back().rows() == 8);
    }
    CHECK(steps == 17);  // 119 rows, 7 a step
}

TEST_CASE("prefill takes turns, and a short prompt does not wait for a long one") {
    Bench bench;
    const auto first = bench.session(1, std::string(kLong, 'a'));
    const auto second = bench.session(2, std::string(kLong, 'b'));
    const auto third = bench.session(3, "c");
    bench.generate(1, first, 1);
    bench.generate(2, second, 1);
    const auto brief = bench.generate(3, third, 1);
    std::size_t steps = 0;
    while (bench.finished(brief) == nullptr) {
        bench.step();
        ++steps;
    }
    CHECK(steps <= 3);
    for (int i = 0; i < 8; ++i) {
        bench.step();
    }
    std::map<const engine::Sequence*, std::uint32_t> rows;
    for (const auto& step : bench.backend.steps()) {
        for (const auto& part : step.parts) {
            rows[part.sequence] += part.rows;
        }
    }
    std::vector<std::uint32_t> shares;
    for (const auto& [sequence, count] : rows) {
        shares.push_back(count);
    }
    std::ranges::sort(shares);
    REQUIRE(shares.size() == 3);
    CHECK(shares[2] - shares[1] <= 8);  // the two long ones go on side by side
}

TEST_CASE("cancel while queued, prefilling and decoding") {
    Bench bench;
    const auto busy = bench.session(1, std::string(50, 'q'));
    SUBCASE("queued") {
        const auto request = bench.generate(1, busy, 5);
        CHECK(bench.core.snapshot().requests_queued == 1);
        bench.core.cancel(1, request);
        CHECK(!bench.step());
        CHECK(bench.finish_of(request) == M4_FINISH_CANCELLED);
        CHECK(bench.finished(request)->usage.output_tokens == 0);
        CHECK(bench.backend.steps().empty());
    }
    SUBCASE("prefilling") {
        const auto request = bench.generate(1, busy, 5);
        bench.step();
        CHECK(bench.core.snapshot().requests_active == 1);
        bench.core.cancel(1, request);
        CHECK(!bench.step());
        CHECK(bench.finish_of(request) == M4_FINISH_CANCELLED);
        // What was computed stays of use.
        const auto again = bench.generate(1, busy, 1);
        bench.run();
        CHECK(bench.finished(again)->usage.cached_tokens == 8);
        CHECK(bench.text_of(again) ==
              test::continuation(test::next_letter, std::string(50, 'q'), 1));
    }
    SUBCASE("decoding") {
        const auto request = bench.generate(1, busy, kLong);
        while (bench.of(request).size() < 3) {
            bench.step();
        }
        bench.core.cancel(1, request);
        CHECK(!bench.step());
        CHECK(bench.finish_of(request) == M4_FINISH_CANCELLED);
        CHECK(bench.finished(request)->usage.output_tokens == 3);
        const auto info = bench.ask(1, sched::InspectSession{busy});
        CHECK(bench.only<sched::SessionState>(info).position == 53);
    }
    SUBCASE("another client's request of the same id, or none") {
        const auto request = bench.generate(1, busy, 2);
        bench.core.cancel(2, request);
        bench.core.cancel(1, request + 1);
        bench.run();
        CHECK(bench.finish_of(request) == M4_FINISH_LENGTH);
    }
    CHECK(bench.core.snapshot().requests_active == 0);
    CHECK(bench.core.snapshot().requests_queued == 0);
}

TEST_CASE("the context has an end") {
    Bench bench;
    const auto session = bench.session(1, "0123456789", 16);
    const auto over =
        bench.ask(1, sched::AppendTokens{session, bench.text.encode("1234567", false)});
    CHECK(bench.only<Failure>(over).code == M4_E_CONTEXT_FULL);
    const auto info = bench.ask(1, sched::InspectSession{session});
    CHECK(bench.only<sched::SessionState>(info).position == 10);

    const auto request = bench.generate(1, session, 0);
    bench.run();
    CHECK(bench.finish_of(request) == M4_FINISH_CONTEXT);
    CHECK(bench.text_of(request) == test::continuation(test::next_letter, "0123456789", 6));

    const auto no_room = bench.generate(1, session, 4);
    CHECK(bench.only<GenerateFinished>(no_room).finish == M4_FINISH_CONTEXT);
    CHECK(bench.finished(no_room)->usage.output_tokens == 0);
    // The session lives on.
    bench.ask(1, sched::TruncateSession{session, 10});
    const auto again = bench.generate(1, session, 2);
    bench.run();
    CHECK(bench.text_of(again) == test::continuation(test::next_letter, "0123456789", 2));

    CHECK(bench.only<Failure>(bench.ask(1, sched::CreateSession{257})).code == M4_E_TOO_LARGE);
}

TEST_CASE("stop texts end a generation before they appear") {
    FakeOptions options;
    options.rule = test::follow("0123456789");
    Bench bench(options);
    const auto session = bench.session(1, "01");
    SUBCASE("over several tokens") {
        const auto request = bench.generate(1, session, kLong, {"xyz", "567"});
        bench.run();
        CHECK(bench.finish_of(request) == M4_FINISH_STOP);
        CHECK(bench.text_of(request) == "234");
        // The context holds what was generated, the stop text included.
        CHECK(bench.ids_of(request) == bench.text.encode("234567", false));
        const auto info = bench.ask(1, sched::InspectSession{session});
        CHECK(bench.only<sched::SessionState>(info).position == 8);
    }
    SUBCASE("a beginning that goes on otherwise is shown") {
        const auto request = bench.generate(1, session, 8, {"56x", "4567x"});
        bench.run();
        CHECK(bench.finish_of(request) == M4_FINISH_LENGTH);
        CHECK(bench.text_of(request) == "23456789");
    }
    SUBCASE("held text comes when the end cuts it short") {
        const auto request = bench.generate(1, session, 4, {"45678"});
        bench.run();
        CHECK(bench.finish_of(request) == M4_FINISH_LENGTH);
        CHECK(bench.text_of(request) == "2345");
        CHECK(bench.finished(request)->rest.text == "45");
    }
    SUBCASE("the earliest of two wins") {
        const auto request = bench.generate(1, session, kLong, {"67", "56789"});
        bench.run();
        CHECK(bench.text_of(request) == "2345");
    }
    SUBCASE("what is not acceptable") {
        CHECK(bench.only<Failure>(bench.generate(1, session, 1, {""})).code == M4_E_INVALID);
        CHECK(bench.only<Failure>(bench.generate(1, session, 1, {"\xff"})).code == M4_E_INVALID);
        const std::vector<std::string> many(17, "x");
        CHECK(bench.only<Failure>(bench.generate(1, session, 1, many)).code == M4_E_INVALID);
        const std::string big(257, 'x');
        CHECK(bench.only<Failure>(bench.generate(1, session, 1, {big})).code == M4_E_INVALID);
    }
}

TEST_CASE("text comes in whole characters") {
    const std::string script = "-\xe2\x82\xac\xf0\x9f\x98\x80-";  // euro sign, a face
    FakeOptions options;
    options.rule = test::follow(script);
    Bench bench(options);
    const auto session = bench.session(1, "-");
    SUBCASE("complete") {
        const auto request = bench.generate(1, session, 8);
        bench.run();
        CHECK(bench.text_of(request) == script.substr(1));
        CHECK(bench.of(request).size() == 3);
        CHECK(std::get<sched::Piece>(bench.of(request)[0]).text == "\xe2\x82\xac");
        CHECK(std::get<sched::Piece>(bench.of(request)[0]).ids.size() == 3);
        CHECK(bench.ids_of(request).size() == 8);
    }
    SUBCASE("cut inside a character") {
        const auto request = bench.generate(1, session, 5);
        bench.run();
        CHECK(bench.text_of(request) == "\xe2\x82\xac\xef\xbf\xbd");
        CHECK(bench.ids_of(request).size() == 5);
    }
    SUBCASE("a stop text of such characters") {
        const auto request = bench.generate(1, session, 9, {"\xf0\x9f\x98\x80"});
        bench.run();
        CHECK(bench.finish_of(request) == M4_FINISH_STOP);
        CHECK(bench.text_of(request) == "\xe2\x82\xac");
    }
}

TEST_CASE("the end token ends, unless it is ignored") {
    FakeOptions options;
    options.rule = [](std::span<const std::uint32_t> history) {
        return history.size() % 5 == 0 ? ByteText::kEos : test::next_letter(history);
    };
    Bench bench(options);
    const auto session = bench.session(1, "ab");
    SUBCASE("ends") {
        const auto request = bench.generate(1, session, 9);
        bench.run();
        CHECK(bench.finish_of(request) == M4_FINISH_EOS);
        CHECK(bench.text_of(request).size() == 3);
        CHECK(bench.ids_of(request).size() == 4);
        CHECK(bench.ids_of(request).back() == ByteText::kEos);
    }
    SUBCASE("ignored") {
        sched::Generate what;
        what.session = session;
        what.max_tokens = 9;
        what.ignore_eos = true;
        const auto request = bench.ask(1, std::move(what));
        bench.run();
        CHECK(bench.finish_of(request) == M4_FINISH_LENGTH);
        CHECK(bench.ids_of(request).size() == 9);
        CHECK(bench.text_of(request).size() == 7);
    }
}

TEST_CASE("scores tell what was expected at every position") {
    FakeOptions options;
    options.max_step_rows = 8;
    Bench bench(options);
    const auto ids = bench.text.encode("twenty tokens or so..", false);
    const auto request = bench.ask(1, sched::Score{ids, 3});
    bench.run();
    std::size_t row = 0;
    for (const auto& outcome : bench.of(request)) {
        const auto* rows = std::get_if<sched::ScoreRows>(&outcome);
        if (rows == nullptr) {
            continue;
        }
        CHECK(rows->first == row);
        REQUIRE(rows->top_ids.size() == rows->token_logprobs.size() * 3);
        for (std::size_t i = 0; i < rows->token_logprobs.size(); ++i, ++row) {
            const std::uint32_t next = test::next_letter(std::span(ids).first(row + 1));
            std::vector<float> logits;
            for (std::uint32_t id = 0; id < ByteText::kVocabulary; ++id) {
                logits.push_back(test::fake_logit(next, id));
            }
            CHECK(rows->top_ids[i * 3] == next);
            CHECK(rows->top_ids[i * 3 + 1] == next + 1);
            CHECK(rows->top_logprobs[i * 3] ==
                  doctest::Approx(engine::token_logprob(logits, next)));
            if (row + 1 < ids.size()) {
                CHECK(rows->token_logprobs[i] ==
                      doctest::Approx(engine::token_logprob(logits, ids[row + 1])));
            } else {
                CHECK(std::isnan(rows->token_logprobs[i]));
            }
        }
    }
    CHECK(row == ids.size());
    CHECK(std::holds_alternative<sched::ScoreFinished>(bench.of(request).back()));
    CHECK(bench.backend.kv_use().used == 0);

    CHECK(bench.only<Failure>(bench.ask(1, sched::Score{{}, 0})).code == M4_E_INVALID);
    const std::vector<std::uint32_t> long_text(257, 5);
    CHECK(bench.only<Failure>(bench.ask(1, sched::Score{long_text, 0})).code == M4_E_TOO_LARGE);
    CHECK(bench.only<Failure>(bench.ask(1, sched::Score{{5}, 1000})).code == M4_E_INVALID);
}

TEST_CASE("wide score rows make small steps") {
    sched::Limits limits;
    limits.score_step_bytes = 2 * 8 * (ByteText::kVocabulary + 1);
    Bench bench({}, limits);
    const auto ids = bench.text.encode("0123456", false);
    const auto request = bench.ask(1, sched::Score{ids, ByteText::kVocabulary});
    bench.run();
    CHECK(std::holds_alternative<sched::ScoreFinished>(bench.of(request).back()));
    for (const auto& step : bench.backend.steps()) {
        CHECK(step.rows() <= 2);
    }
    const auto cancelled = bench.ask(1, sched::Score{ids, 1});
    bench.core.cancel(1, cancelled);
    bench.run();
    CHECK(bench.only<Failure>(cancelled).code == M4_E_CANCELLED);
}

TEST_CASE("greedy tokens chained in one step are those of a step each") {
    FakeOptions options;
    options.rule = [](std::span<const std::uint32_t> history) {
        return history.size() % 11 == 0 ? ByteText::kEos : test::next_letter(history);
    };
    std::vector<std::vector<std::string>> texts;
    std::vector<std::vector<m4_finish>> ends;
    for (const std::uint32_t passes : {1U, 2U, 4U, 7U}) {
        CAPTURE(passes);
        options.passes = passes;
        options.pool_pages = 40;
        Bench bench(options);
        std::vector<sched::RequestId> requests;
        const auto start = [&](sched::ClientId client, std::string_view prompt,
                               std::uint32_t max_tokens, bool ignore_eos, float temperature = 0,
                               std::uint32_t capacity = 64) {
            sched::Generate what;
            what.session = bench.session(client, prompt, capacity);
            what.max_tokens = max_tokens;
            what.ignore_eos = ignore_eos;
            what.sampling.temperature = temperature;
            what.sampling.seed = 5;
            requests.push_back(bench.ask(client, std::move(what)));
        };
        start(1, "one", 23, true);
        for (int i = 0; i < 6; ++i) {
            bench.step();
        }
        start(2, "two joins, and ends early", 50, false);
        start(3, "three", 0, true, 0, 24);  // until its context is full
        for (int i = 0; i < 3; ++i) {
            bench.step();
        }
        start(4, "four draws lots", 9, true, 0.7F);
        start(4, "five", 9, true);
        std::size_t chained = 0;
        std::size_t steps = 0;
        while (bench.step()) {
            REQUIRE(++steps < 500);
        }
        for (const auto& step : bench.backend.steps()) {
            chained += step.passes > 1 ? 1U : 0U;
        }
        CHECK((chained > 0) == (passes > 1));
        auto& text = texts.emplace_back();
        auto& end = ends.emplace_back();
        for (const auto request : requests) {
            text.push_back(bench.text_of(request));
            end.push_back(bench.finish_of(request));
        }
        CHECK(text == texts.front());
        CHECK(end == ends.front());
        // What was computed past an end is not kept.
        bench.core.client_left(2);
        const auto again = bench.generate(1, 1, 5);
        bench.run();
        CHECK(bench.finished(again)->usage.cached_tokens == 25);
    }
    CHECK(ends.front()[1] == M4_FINISH_EOS);
    CHECK(ends.front()[2] == M4_FINISH_CONTEXT);
}

TEST_CASE("candidates of the device give the same tokens as rows of logits") {
    std::vector<std::vector<std::string>> texts;
    for (const std::uint32_t candidates : {0U, 16U}) {
        CAPTURE(candidates);
        FakeOptions options;
        options.candidates = candidates;
        Bench bench(options);
        std::vector<sched::RequestId> requests;
        // One that asks for more than there are, one that takes all, and a greedy one.
        for (const std::uint32_t top_k : {5U, 16U, 17U, 0U, 1U}) {
            sched::Generate what;
            what.session = bench.session(top_k % 3 + 1, "prompt " + std::to_string(top_k));
            what.max_tokens = 30;
            what.ignore_eos = true;
            what.sampling = {.temperature = top_k == 1 ? 0.0F : 3.0F, .top_k = top_k, .seed = 11};
            requests.push_back(bench.ask(top_k % 3 + 1, std::move(what)));
        }
        bench.run();
        std::set<engine::Logits> kinds;
        for (const auto& step : bench.backend.steps()) {
            for (const auto& part : step.parts) {
                kinds.insert(part.logits);
            }
        }
        CHECK(kinds.contains(engine::Logits::last));
        CHECK(kinds.contains(engine::Logits::greedy));
        CHECK(kinds.contains(engine::Logits::top) == (candidates != 0));
        auto& text = texts.emplace_back();
        for (const auto request : requests) {
            text.push_back(bench.text_of(request));
            CHECK(bench.ids_of(request).size() == 30);
        }
        CHECK(text == texts.front());
    }
}

TEST_CASE("a chain is not begun while a prompt waits, and a stop text cuts it") {
    FakeOptions options;
    options.rule = test::follow("0123456789");
    options.passes = 4;
    Bench bench(options);
    const auto session = bench.session(1, "01");
    const auto request = bench.generate(1, session, kLong, {"67"});
    bench.step();
    const auto other = bench.session(2, std::string(20, 'x'));
    bench.generate(2, other, 1);
    bench.step();
    CHECK(bench.backend.steps().back().passes == 1);
    bench.run();
    CHECK(bench.text_of(request) == "2345");
    CHECK(bench.ids_of(request) == bench.text.encode("234567", false));
    const auto info = bench.ask(1, sched::InspectSession{session});
    CHECK(bench.only<sched::SessionState>(info).position == 8);
    const auto on = bench.generate(1, session, 3);
    bench.run();
    CHECK(bench.text_of(on) == "890");
    CHECK(bench.finished(on)->usage.cached_tokens == 7);
}
