// SPDX-License-Identifier: MIT
// What a decoder of speech may write, and how its times cut it into segments.
#include "sched/segments.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "sched/token_rules.hpp"

namespace m4::sched {

namespace {

using Ids = std::vector<std::uint32_t>;

/// 0..9 text, 10 end, 11 start, 12 13 languages, 14 15 tasks, 16 no times, 17.. times.
firmware::Transcription speech() {
    return {.start = 11,
            .end = 10,
            .languages = {{"en", 12}, {"de", 13}},
            .transcribe = 14,
            .translate = 15,
            .no_timestamps = 16,
            .first_timestamp = 17,
            .timestamp_ms = 20,
            .latest_first = 3,
            .suppressed = {9},
            .suppressed_first = {10, 8}};
}
constexpr std::uint32_t kTime = 17;
constexpr std::size_t kVocabulary = 30;

/// What may follow, of equal logits.
Ids allowed(const Ids& written, bool timestamps, std::vector<float> logits = {}) {
    const auto how = speech();
    logits.resize(kVocabulary, 0.0F);
    TokenRules(&how, timestamps).apply(written, logits);
    Ids left;
    for (std::uint32_t id = 0; id < kVocabulary; ++id) {
        if (std::isfinite(logits[id])) {
            left.push_back(id);
        }
    }
    return left;
}

std::vector<float> loud(std::uint32_t first, std::uint32_t end, float by = 20) {
    std::vector<float> logits(kVocabulary, 0.0F);
    for (std::uint32_t id = first; id < end; ++id) {
        logits[id] = by;
    }
    return logits;
}

}  // namespace

TEST_CASE("token rules: nothing that asks, nothing suppressed, no times where none are wanted") {
    CHECK(allowed({}, false) == Ids{0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(allowed({5}, false) == Ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 10});
    std::vector<float> logits = {NAN, 1, 2};
    TokenRules(nullptr, false).apply({}, logits);
    CHECK(logits[0] == -INFINITY);
    CHECK(logits[2] == 2);
    CHECK(TokenRules(nullptr, true).ends(10) == false);
    const auto how = speech();
    CHECK(TokenRules(&how, true).ends(10));
}

TEST_CASE("token rules: times come first, in pairs, and never back") {
    CHECK(allowed({}, true) == Ids{17, 18, 19, 20});  // up to the latest first
    // Behind the first time: text, or the end.
    CHECK(allowed({kTime}, true) == Ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 10});
    // Behind text: text, the end, or a later time.
    CHECK(allowed({kTime, 4}, true, loud(0, 11)) ==
          Ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29});
    // Behind a text's end: the next begin, which may be the same, or the end.
    CHECK(allowed({kTime, 4, kTime + 9}, true) == Ids{10, 26, 27, 28, 29});
    // Times that together outweigh each text.
    CHECK(allowed({kTime, 4}, true, loud(kTime + 1, 30, 1)) ==
          Ids{10, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29});
}

TEST_CASE("token rules: logits become logarithms of probabilities") {
    std::vector<float> logits = {1, 2, 3, -INFINITY};
    to_log_probabilities(logits);
    double sum = 0;
    for (const float logit : logits) {
        sum += std::exp(static_cast<double>(logit));
    }
    CHECK(sum == doctest::Approx(1));
    CHECK(logits[3] == -INFINITY);
    std::vector<float> none(3, -INFINITY);
    to_log_probabilities(none);
    CHECK(none[0] == -INFINITY);
}

TEST_CASE("segments: without times a window is one") {
    const auto cut = cut_segments(Ids{1, 2}, nullptr, 700, 1000);
    CHECK(cut.all == std::vector<Segment>{{0, 700, {1, 2}}});
    CHECK(cut.advance_ms == 1000);
    CHECK(cut_segments({}, nullptr, 700, 1000).all.empty());
}

TEST_CASE("segments: pairs of times cut, and the next window begins behind what is whole") {
    const auto how = speech();
    const auto cut = [&](const Ids& ids) { return cut_segments(ids, &how, 1000, 1000); };
    // One segment that ends before the window does: nothing more is said.
    auto one = cut({kTime, 1, 2, kTime + 5});
    CHECK(one.all == std::vector<Segment>{{0, 100, {1, 2}}});
    CHECK(one.advance_ms == 1000);
    // Two, the second whole.
    auto two = cut({kTime, 1, kTime + 5, kTime + 6, 2, kTime + 9});
    CHECK(two.all == std::vector<Segment>{{0, 100, {1}}, {120, 180, {2}}});
    CHECK(two.advance_ms == 1000);
    // The second is cut off: it is heard again from its begin.
    auto open = cut({kTime, 1, kTime + 5, kTime + 6, 2});
    CHECK(open.all == std::vector<Segment>{{0, 100, {1}}});
    CHECK(open.advance_ms == 100);
    // It only began.
    auto begun = cut({kTime, 1, kTime + 5, kTime + 5});
    CHECK(begun.all == std::vector<Segment>{{0, 100, {1}}});
    CHECK(begun.advance_ms == 100);
    // No end: up to the window's.
    auto endless = cut({kTime + 2, 1, 2});
    CHECK(endless.all == std::vector<Segment>{{40, 1000, {1, 2}}});
    CHECK(endless.advance_ms == 1000);
    // Times past the sound, and none that moves on.
    CHECK(cut_segments(Ids{kTime, 1, kTime + 9}, &how, 50, 1000).all ==
          std::vector<Segment>{{0, 50, {1}}});
    CHECK(cut({kTime, kTime, 1}).advance_ms == 1000);
}

}  // namespace m4::sched
