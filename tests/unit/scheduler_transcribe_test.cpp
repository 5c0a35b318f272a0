// SPDX-License-Identifier: MIT
// Transcribe requests in the scheduler: windows, beams, languages, who runs between
// whose slices, and pages.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "scheduler_bench.hpp"

using namespace m4;
using sched::Failure;
using sched::Transcribe;
using sched::TranscribeFinished;
using sched::TranscriptPart;
using test::Bench;
using test::FakeBackend;
using test::FakeDecoder;
using test::FakeOptions;

namespace {

using Ids = std::vector<std::uint32_t>;
constexpr std::uint32_t kEnd = 20;
constexpr std::uint32_t kStart = 21;
constexpr std::uint32_t kGerman = 23;

/// An encoder of 2 x 2 features, and a decoder of two languages.
struct Parts {
    firmware::Part listener;
    firmware::Part writer;

    Parts() {
        firmware::Program encode;
        encode.values.push_back(
            {M4_DTYPE_F32, {{2, firmware::Symbol::items}, {2, firmware::Symbol::none}}});
        encode.inputs.push_back({firmware::Role::features, 0});
        listener.kind = firmware::PartKind::encoder;
        listener.programs = {encode};
        writer.name = "writer";
        writer.kind = firmware::PartKind::decoder;
        writer.vocabulary = FakeDecoder::kVocabulary;
        writer.context_length = FakeDecoder::kContext;
        writer.memory_rows = FakeDecoder::kMemoryRows;
        writer.transcription = firmware::Transcription{.start = kStart,
                                                       .end = kEnd,
                                                       .languages = {{"en", 22}, {"de", kGerman}},
                                                       .transcribe = 24,
                                                       .translate = 25,
                                                       .no_timestamps = 26,
                                                       .suppressed = {},
                                                       .suppressed_first = {}};
    }
};

const Parts& parts() {
    static const Parts all;
    return all;
}

/// Windows whose features add up to 4 x value.
Transcribe windows(std::initializer_list<float> values) {
    Transcribe what;
    what.encoder = 1;
    what.decoder = 2;
    what.listener = &parts().listener;
    what.writer = &parts().writer;
    what.language = 0;
    for (const float value : values) {
        what.features.insert(what.features.end(), FakeBackend::kItemFloats, value);
    }
    return what;
}

/// Says the number it heard, once for each token before, then ends; German where asked.
std::vector<float> say(float heard, std::span<const std::uint32_t> fed) {
    std::vector<float> logits(FakeDecoder::kVocabulary, 0.0F);
    logits[kGerman] = 1;
    const auto number = static_cast<std::uint32_t>(heard / 4);
    std::size_t said = 0;
    for (const std::uint32_t token : fed) {
        said += token == number ? 1 : 0;
    }
    logits[said < 3 ? number : kEnd] = 9;
    return logits;
}

FakeOptions speaking(FakeDecoder::Speak speak = say) {
    FakeOptions options;
    options.speak = std::move(speak);
    return options;
}

std::vector<Ids> segments(Bench& bench, sched::RequestId request) {
    std::vector<Ids> all;
    for (const auto& outcome : bench.of(request)) {
        if (const auto* part = std::get_if<TranscriptPart>(&outcome)) {
            all.push_back(part->ids);
        }
    }
    return all;
}

TranscribeFinished last(Bench& bench, sched::RequestId request) {
    REQUIRE(!bench.of(request).empty());
    const auto* done = std::get_if<TranscribeFinished>(&bench.of(request).back());
    REQUIRE(done != nullptr);
    return *done;
}

}  // namespace

TEST_CASE("transcribe: window by window, each in its turn") {
    Bench bench(speaking());
    const auto request = bench.ask(1, windows({5, 7}));
    CHECK(bench.core.snapshot().requests_queued == 1);
    bench.run();
    CHECK(segments(bench, request) == std::vector<Ids>{{5, 5, 5}, {7, 7, 7}});
    const auto second = std::get<TranscriptPart>(bench.of(request)[1]);
    CHECK(second.start_ms == 30'000);
    CHECK(second.end_ms == 60'000);
    const auto done = last(bench, request);
    CHECK(done.part == "writer");
    CHECK(done.language == "en");
    CHECK(done.windows == 2);
    CHECK(done.usage.prompt_tokens == 2 * 4);
    CHECK(done.usage.output_tokens == 6);
    CHECK(bench.backend.decoder(2).kv_use().used == 0);
    CHECK(bench.core.snapshot().requests_active == 0);
}

TEST_CASE("transcribe: the language is heard where none is given, and a prompt needs none") {
    Bench bench(speaking());
    Transcribe what = windows({5});
    what.language = std::nullopt;
    const auto request = bench.ask(1, what);
    bench.run();
    CHECK(last(bench, request).language == "de");
    CHECK(last(bench, request).usage.prompt_tokens == 4);
    what.prompt = {1, 2, 3};
    what.max_tokens = 2;
    const auto prompted = bench.ask(1, what);
    bench.run();
    CHECK(last(bench, prompted).usage.prompt_tokens == 3);
    CHECK(last(bench, prompted).language.empty());
    CHECK(segments(bench, prompted) == std::vector<Ids>{{5, 5}});
}

TEST_CASE("transcribe: without an end it goes on as far as the context") {
    Bench bench(speaking([](float, std::span<const std::uint32_t>) {
        std::vector<float> logits(FakeDecoder::kVocabulary, 0.0F);
        logits[3] = 1;
        return logits;
    }));
    Transcribe what = windows({5});
    what.prompt = {1};
    const auto request = bench.ask(1, what);
    bench.run();
    // The last token is never fed.
    CHECK(segments(bench, request) == std::vector<Ids>{Ids(FakeDecoder::kContext, 3)});
}

TEST_CASE("transcribe: a window of silence says nothing, by the part's own thresholds") {
    constexpr std::uint32_t kSilence = 27;
    // Behind the first token 7 is speech; of what is written only 6 is sure.
    const auto speak = [](float heard, std::span<const std::uint32_t> fed) {
        std::vector<float> logits(FakeDecoder::kVocabulary, 0.0F);
        const auto number = static_cast<std::uint32_t>(heard / 4);
        if (fed.size() == 1) {
            logits[kGerman] = 1;
            logits[kSilence] = number == 7 ? 0 : 9;
            return logits;
        }
        const auto said = std::ranges::count(fed, number);
        logits[said < 3 ? number : kEnd] = number == 6 ? 9 : 1;
        return logits;
    };
    // Of 30 tokens; the rules leave 23 to be written.
    const double silence = std::exp(9.0) / (std::exp(9.0) + std::exp(1.0) + 28);
    const double unsure = 1 - std::log(std::exp(1.0) + 22);
    firmware::Part writer = parts().writer;
    auto& how = *writer.transcription;
    how.no_speech = kSilence;
    how.no_speech_probability = 0.6F;
    how.least_log_probability = -1;
    Bench bench(speaking(speak));
    Transcribe what = windows({5, 6, 7, 5});
    what.writer = &writer;
    const auto heard = [&] {
        const auto request = bench.ask(1, what);
        bench.run();
        CHECK(last(bench, request).windows == 4);
        CHECK(bench.backend.decoder(2).kv_use().used == 0);
        return segments(bench, request);
    };
    const std::vector<Ids> spoken = {{6, 6, 6}, {7, 7, 7}};
    const std::vector<Ids> all = {{5, 5, 5}, {6, 6, 6}, {7, 7, 7}, {5, 5, 5}};
    SUBCASE("the others keep their times") {
        const auto request = bench.ask(1, what);
        bench.run();
        CHECK(segments(bench, request) == spoken);
        CHECK(std::get<TranscriptPart>(bench.of(request)[0]).start_ms == 30'000);
        CHECK(std::get<TranscriptPart>(bench.of(request)[1]).end_ms == 90'000);
        CHECK(last(bench, request).usage.prompt_tokens == 4 * 4);
    }
    SUBCASE("whoever hears the language hears it there, too") {
        what.language = std::nullopt;
        const auto request = bench.ask(1, what);
        bench.run();
        CHECK(segments(bench, request) == spoken);
        CHECK(last(bench, request).language == "de");
        CHECK(last(bench, request).usage.prompt_tokens == 4 * 4);
    }
    SUBCASE("by beams") {
        what.beam = 2;
        CHECK(heard() == spoken);
    }
    SUBCASE("thresholds on either side of what is computed plainly") {
        how.no_speech_probability = static_cast<float>(silence - 1e-5);
        how.least_log_probability = static_cast<float>(unsure + 1e-4);
        CHECK(heard() == spoken);
        how.no_speech_probability = static_cast<float>(silence + 1e-5);
        CHECK(heard() == all);
        how.no_speech_probability = 0.6F;
        how.least_log_probability = static_cast<float>(unsure - 1e-4);
        CHECK(heard() == all);
    }
    SUBCASE("a part without the token knows no silence") {
        how.no_speech = 0;
        CHECK(heard() == all);
    }
    SUBCASE("nor does a prompt, which has no first token") {
        what.prompt = {1, 2};
        CHECK(heard() == all);
    }
}

TEST_CASE("transcribe: a beam finds what is likelier in all than token by token") {
    // 1 looks better than 2, but what follows it is uncertain.
    const auto speak = [](float, std::span<const std::uint32_t> fed) {
        std::vector<float> logits(FakeDecoder::kVocabulary, -30.0F);
        if (fed.back() == 1) {
            for (std::uint32_t id = 3; id < 9; ++id) {
                logits[id] = 0;
            }
        } else if (fed.back() == 2) {
            logits[4] = 0;
        } else if (fed.back() >= 3 && fed.back() < 9) {
            logits[kEnd] = 0;
        } else {
            logits[1] = std::log(0.6F);
            logits[2] = std::log(0.4F);
        }
        return logits;
    };
    Bench bench(speaking(speak));
    const auto greedy = bench.ask(1, windows({5}));
    bench.run();
    CHECK(segments(bench, greedy) == std::vector<Ids>{{1, 3}});
    Transcribe what = windows({5});
    what.beam = 2;
    const auto beam = bench.ask(1, what);
    bench.run();
    CHECK(segments(bench, beam) == std::vector<Ids>{{2, 4}});
    what.beam = 5;
    const auto wide = bench.ask(1, what);
    bench.run();
    CHECK(segments(bench, wide) == std::vector<Ids>{{2, 4}});
    CHECK(bench.backend.decoder(2).kv_use().used == 0);
    const auto& steps = bench.backend.decoder(2).steps();
    CHECK(*std::ranges::max_element(steps) > 1);
}

TEST_CASE("transcribe: generations and encodings go on between its slices") {
    Bench bench(speaking());
    const auto session = bench.session(1, "once");
    const auto story = bench.generate(1, session, 4);
    const auto request = bench.ask(2, windows({5}));
    for (int i = 0; i < 4; ++i) {
        bench.step();
    }
    CHECK(bench.finish_of(story) == M4_FINISH_LENGTH);
    CHECK(segments(bench, request).empty());
    bench.run();
    CHECK(segments(bench, request) == std::vector<Ids>{{5, 5, 5}});
}

TEST_CASE("transcribe: who finds no pages waits for a window's end, then has his turn") {
    FakeOptions options = speaking();
    options.decoder_pages = 4;  // one input
    Bench bench(options);
    const auto first = bench.ask(1, windows({5, 6, 7}));
    const auto second = bench.ask(2, windows({8}));
    bench.run();
    CHECK(segments(bench, first) == std::vector<Ids>{{5, 5, 5}, {6, 6, 6}, {7, 7, 7}});
    CHECK(segments(bench, second) == std::vector<Ids>{{8, 8, 8}});
    // It did not wait for all three.
    CHECK(last(bench, second).usage.total_us < last(bench, first).usage.total_us);
    Transcribe wide = windows({5});
    wide.beam = 2;
    const auto refused = bench.ask(1, wide);
    CHECK(bench.only<Failure>(refused).code == M4_E_TOO_LARGE);
}

TEST_CASE("transcribe: cancelled, left, lost and taken back") {
    Bench bench(speaking());
    const auto request = bench.ask(1, windows({5, 6}));
    for (int i = 0; i < 4; ++i) {
        bench.step();
    }
    CHECK(bench.backend.decoder(2).kv_use().used == 4);
    SUBCASE("cancelled") {
        bench.core.cancel(1, request);
        bench.step();
        CHECK(bench.only<Failure>(request).code == M4_E_CANCELLED);
    }
    SUBCASE("left") {
        bench.core.client_left(1);
        bench.step();
        CHECK(bench.of(request).empty());
    }
    SUBCASE("lost") {
        bench.backend.decoder(2).lost = true;
        bench.step();
        CHECK(bench.only<Failure>(request).code == M4_E_GPU_LOST);
    }
    SUBCASE("revoked") {
        bench.core.revoke("taken back");
        bench.step();
        CHECK(bench.only<Failure>(request).code == M4_E_VERIFY);
    }
    CHECK(bench.backend.decoder(2).kv_use().used == 0);
}

TEST_CASE("transcribe: quotas, and clients that do not read") {
    Bench bench(speaking());
    sched::Limits limits;
    for (std::uint32_t i = 0; i < limits.requests_per_client; ++i) {
        (void)bench.ask(1, windows({5}));
    }
    const auto over = bench.ask(1, windows({5}));
    CHECK(bench.only<Failure>(over).code == M4_E_QUOTA);
    bench.run();

    limits.unread_bytes = 100;
    Bench slow(speaking(), limits);
    const auto request = slow.ask(1, windows({5, 6}));
    slow.run();
    CHECK(segments(slow, request).size() == 1);
    CHECK(slow.backend.decoder(2).kv_use().used == 0);
    slow.read_all(1);
    slow.run();
    CHECK(segments(slow, request).size() == 2);
    CHECK(last(slow, request).windows == 2);
}
