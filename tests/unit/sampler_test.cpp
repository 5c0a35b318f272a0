// SPDX-License-Identifier: MIT
#include "engine/sampler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>

namespace m4::test {

namespace {

using engine::Sampler;
using engine::SamplingOptions;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int> draw(const SamplingOptions& options, const std::vector<float>& logits, int count) {
    Sampler sampler(options);
    std::vector<int> counts(logits.size());
    for (int i = 0; i < count; ++i) {
        ++counts[sampler.pick(logits)];
    }
    return counts;
}

}  // namespace

TEST_CASE("sampler: greedy takes the highest, ties to the lowest id") {
    Sampler sampler({});
    CHECK(sampler.pick(std::vector<float>{1, 3, 2, 3}) == 1);
    CHECK(sampler.pick(std::vector<float>{-kInfinity, -2}) == 1);
    CHECK(sampler.pick(std::vector<float>{NAN, -5, NAN}) == 1);
    CHECK(sampler.pick(std::vector<float>{NAN, NAN}) == 0);
    CHECK_THROWS_AS((void)sampler.pick({}), std::invalid_argument);
}

TEST_CASE("sampler: frequencies follow softmax of logits over temperature") {
    const std::vector<float> logits = {0, 1, 2, -kInfinity};
    constexpr int kCount = 40000;
    const auto counts = draw({.temperature = 0.5F, .seed = 3}, logits, kCount);
    const double weights[] = {1, std::exp(2.0), std::exp(4.0)};
    const double total = weights[0] + weights[1] + weights[2];
    for (std::size_t i = 0; i < 3; ++i) {
        const double expected = kCount * weights[i] / total;
        CHECK(counts[i] == doctest::Approx(expected).epsilon(0.1));
    }
    CHECK(counts[3] == 0);
}

TEST_CASE("sampler: the best few give what the whole row gives") {
    std::mt19937_64 random(9);
    std::vector<float> logits(300);
    for (std::uint64_t seed = 1; seed <= 400; ++seed) {
        CAPTURE(seed);
        for (float& logit : logits) {
            logit = static_cast<float>(random() % 40) * 0.25F;  // many ties
        }
        logits[random() % logits.size()] = NAN;
        logits[random() % logits.size()] = seed % 9 == 0 ? kInfinity : -kInfinity;
        if (seed % 50 == 0) {
            std::ranges::fill(logits, seed % 100 == 0 ? NAN : -kInfinity);
        }
        std::vector<engine::Candidate> best;
        for (std::uint32_t id = 0; id < logits.size(); ++id) {
            best.push_back({id, logits[id]});
        }
        engine::sort_candidates(best);
        best.resize(64);
        for (const std::uint32_t top_k : {1U, 5U, 64U}) {
            const SamplingOptions options{.temperature = 0.3F + static_cast<float>(seed % 5),
                                          .top_k = top_k,
                                          .top_p = seed % 3 == 0 ? 0.8F : 0.0F,
                                          .seed = seed};
            Sampler whole(options);
            Sampler few(options);
            for (int i = 0; i < 5; ++i) {
                CHECK(few.pick_among(best) == whole.pick(logits));
            }
        }
    }
}

TEST_CASE("sampler: candidates that do not stand for a row are refused") {
    const std::vector<engine::Candidate> best = {{3, 1.0F}, {1, 0.5F}};
    CHECK_THROWS_AS((void)Sampler({}).pick_among(best), std::invalid_argument);
    CHECK_THROWS_AS((void)Sampler({.temperature = 1, .seed = 1}).pick_among(best),
                    std::invalid_argument);
    CHECK_THROWS_AS((void)Sampler({.temperature = 1, .top_k = 3, .seed = 1}).pick_among(best),
                    std::invalid_argument);
}

TEST_CASE("sampler: the same seed gives the same choices, everywhere") {
    std::vector<float> logits(50);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        logits[i] = static_cast<float>(i % 7) * 0.25F;
    }
    const auto choices = [&](std::uint64_t seed) {
        Sampler sampler({.temperature = 1, .seed = seed});
        std::vector<std::uint32_t> picked;
        for (int i = 0; i < 8; ++i) {
            picked.push_back(sampler.pick(logits));
        }
        return picked;
    };
    CHECK(choices(1) == choices(1));
    CHECK(choices(1) != choices(2));
}

TEST_CASE("sampler: top-k keeps the k best, ties to the lower id") {
    const std::vector<float> logits = {1, 2, 2, 2, 0};
    const auto counts = draw({.temperature = 1, .top_k = 2, .seed = 1}, logits, 2000);
    CHECK(counts == std::vector<int>{0, counts[1], counts[2], 0, 0});
    CHECK(counts[1] > 800);
    CHECK(counts[2] > 800);
    CHECK(draw({.temperature = 1, .top_k = 1, .seed = 1}, logits, 50)[1] == 50);
    CHECK(draw({.temperature = 1, .top_k = 99, .seed = 1}, logits, 5000)[4] > 0);
}

TEST_CASE("sampler: top-p keeps the fewest tokens that reach p") {
    // Probabilities 0.5, 0.25, 0.125, 0.125.
    const std::vector<float> logits = {std::log(4.0F), std::log(2.0F), 0, 0};
    CHECK(draw({.temperature = 1, .top_p = 0.4F, .seed = 1}, logits, 100)[0] == 100);
    const auto two = draw({.temperature = 1, .top_p = 0.7F, .seed = 1}, logits, 3000);
    CHECK(two[0] == doctest::Approx(2000).epsilon(0.1));
    CHECK(two[1] == doctest::Approx(1000).epsilon(0.1));
    CHECK(two[2] + two[3] == 0);
    const auto all = draw({.temperature = 1, .top_p = 1, .seed = 1}, logits, 3000);
    CHECK(all[3] > 0);
    // After the temperature: at 0.5 the first has 16/22, enough alone.
    CHECK(draw({.temperature = 0.5F, .top_p = 0.7F, .seed = 1}, logits, 100)[0] == 100);
    // After top-k: of the two kept, the first has 2/3.
    CHECK(draw({.temperature = 1, .top_k = 2, .top_p = 0.6F, .seed = 1}, logits, 100)[0] == 100);
}

TEST_CASE("logprobs: of one token and of the best") {
    const std::vector<float> logits = {std::log(1.0F), std::log(4.0F), std::log(1.0F),
                                       std::log(2.0F)};
    CHECK(engine::token_logprob(logits, 1) == doctest::Approx(std::log(0.5)));
    CHECK_THROWS_AS((void)engine::token_logprob(logits, 4), std::invalid_argument);
    const auto best = engine::top_logprobs(logits, 3);
    REQUIRE(best.size() == 3);
    CHECK(best[0].id == 1);
    CHECK(best[1].id == 3);
    CHECK(best[2].id == 0);
    CHECK(best[1].logprob == doctest::Approx(std::log(0.25)));
    CHECK(engine::top_logprobs(logits, 99).size() == 4);
    CHECK(engine::top_logprobs(logits, 0).empty());
    const std::vector<float> large = {1000, 999};  // no overflow
    CHECK(engine::token_logprob(large, 0) == doctest::Approx(-std::log(1 + std::exp(-1.0))));
}

}  // namespace m4::test
