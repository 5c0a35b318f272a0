// SPDX-License-Identifier: MIT
// Tokens chosen on the device: its kernels by themselves, long greedy continuations
// over every variant, batch and chain, and candidates for the sampler.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "engine/sampler.hpp"
#include "gpu.hpp"
#include "op_bench.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::test {

namespace {

using engine::Chunk;
using engine::Engine;
using engine::Logits;
using Tokens = std::vector<std::uint32_t>;

constexpr std::size_t kContinued = 200;
constexpr std::uint64_t kGreedySeed = 3;  // whose continuations know no near ties
constexpr double kNoise = 1e-4;           // of logits, at most: checked

/// The reference's own continuation, and the least lead a token had in it.
struct Continuation {
    Tokens tokens;
    double margin = HUGE_VAL;
};

Continuation continue_by_reference(const TinyModel& model, Tokens prompt) {
    Continuation all{std::move(prompt)};
    for (std::size_t i = 0; i < kContinued; ++i) {
        const auto logits = reference_logits(model, all.tokens);
        const auto row = std::span(logits).last(model.dims.vocabulary);
        const auto best = std::max_element(row.begin(), row.end());
        double second = -HUGE_VAL;
        for (auto at = row.begin(); at != row.end(); ++at) {
            second = at == best ? second : std::max(second, *at);
        }
        all.margin = std::min(all.margin, *best - second);
        all.tokens.push_back(static_cast<std::uint32_t>(best - row.begin()));
    }
    return all;
}

/// The largest difference of a logit, over a whole context.
double noise(Engine& engine, const TinyModel& model, const Tokens& tokens) {
    const auto expected = reference_logits(model, tokens);
    const auto sequence = engine.create_sequence(engine.context_length());
    double largest = 0;
    std::size_t next = 0;
    while (sequence->length() < tokens.size()) {
        const std::size_t count = std::min<std::size_t>(tokens.size() - sequence->length(), 32);
        const Chunk chunk{sequence.get(), std::span(tokens).subspan(sequence->length(), count),
                          Logits::all};
        for (const float logit : engine.step({&chunk, 1})) {
            const double difference = std::abs(static_cast<double>(logit) - expected[next++]);
            largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
        }
    }
    CHECK(next == expected.size());
    return largest;
}

/// All prompts at once, each by a step of its own first.
std::vector<Tokens> continue_on_device(Engine& engine, const std::vector<Tokens>& prompts,
                                       std::uint32_t passes) {
    std::vector<Tokens> all = prompts;
    std::vector<std::unique_ptr<engine::Sequence>> sequences;
    for (Tokens& tokens : all) {
        sequences.push_back(engine.create_sequence(engine.context_length()));
        const Chunk chunk{sequences.back().get(), tokens, Logits::greedy};
        CHECK(engine.step({&chunk, 1}).empty());
        REQUIRE(engine.ids().size() == 1);
        tokens.push_back(engine.ids()[0]);
    }
    std::size_t made = 1;
    while (made < kContinued) {
        const auto count =
            static_cast<std::uint32_t>(std::min<std::size_t>(passes, kContinued - made));
        std::vector<Chunk> chunks;
        for (std::size_t i = 0; i < all.size(); ++i) {
            chunks.push_back({sequences[i].get(), std::span(all[i]).last(1), Logits::greedy});
        }
        engine.step(chunks, count);
        REQUIRE(engine.ids().size() == all.size() * count);
        for (std::size_t pass = 0; pass < count; ++pass) {
            for (std::size_t i = 0; i < all.size(); ++i) {
                all[i].push_back(engine.ids()[pass * all.size() + i]);
            }
        }
        made += count;
        CHECK(sequences[0]->length() == prompts[0].size() + made - 1);
    }
    return all;
}

/// Rows that are awkward to choose from.
Matrix awkward_rows(std::uint32_t columns) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinite = std::numeric_limits<float>::infinity();
    Matrix rows = random_matrix(9, columns, columns);
    const auto row = [&](std::size_t r) {
        return std::span(rows.data).subspan(r * columns, columns);
    };
    std::ranges::fill(row(1), 0.5F);  // all alike: the first
    std::ranges::fill(row(2), nan);
    std::ranges::fill(row(3), -infinite);
    row(4)[columns - 1] = 2.0F;  // the last
    row(5)[columns / 2] = infinite;
    row(6)[0] = nan;
    for (std::size_t i = columns / 3; i < columns; i += 5) {
        row(7)[i] = 3.0F;
    }
    std::ranges::fill(row(8), -0.0F);
    row(8)[columns - 1] = 0.0F;  // equal to the others
    return rows;
}

}  // namespace

TEST_CASE("argmax: as the sampler chooses, with ties, NaN and odd vocabularies") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const std::uint32_t columns : {1U, 3U, 7U, 64U, 259U, 1001U}) {
            CAPTURE(setup.name());
            CAPTURE(columns);
            const Matrix rows = awkward_rows(columns);
            OpBench bench(setup, rows.rows);
            engine::Sampler sampler(engine::SamplingOptions{});
            Tokens expected;
            for (std::size_t r = 0; r < rows.rows; ++r) {
                expected.push_back(
                    sampler.pick(std::span(rows.data).subspan(r * columns, columns)));
            }
            CHECK(bench.argmax(rows) == expected);
        }
    }
}

TEST_CASE("top_logits: the first of all in the sampler's order, and their logits") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const std::uint32_t columns : {2U, 7U, 65U, 259U, 1001U, 70000U}) {
            CAPTURE(setup.name());
            CAPTURE(columns);
            const Matrix rows = awkward_rows(columns);
            const std::uint32_t count = std::min(64U, columns - 1);
            OpBench bench(setup, rows.rows);
            const auto best = bench.top(rows, count);
            for (std::size_t r = 0; r < rows.rows; ++r) {
                CAPTURE(r);
                std::vector<engine::Candidate> all;
                for (std::uint32_t id = 0; id < columns; ++id) {
                    all.push_back({id, rows.data[r * columns + id]});
                }
                engine::sort_candidates(all);
                for (std::size_t i = 0; i < count; ++i) {
                    const bool alike = best[r][i].id == all[i].id &&
                                       (best[r][i].logit == all[i].logit ||
                                        (std::isnan(best[r][i].logit) && std::isnan(all[i].logit)));
                    if (!alike) {
                        FAIL_CHECK("the best but " << i << " is another");
                        break;
                    }
                }
            }
        }
    }
}

TEST_CASE("engine: sampling from the device's candidates chooses what whole rows give") {
    M4_NEEDS_DEVICE();
    const TinyModel model = make_tiny_model({}, kGreedySeed);
    const TempFolder folder;
    write_tiny_model(model, folder / "image");
    const auto image = firmware::MappedImage::open_folder(folder / "image");
    for (const bool storage : {false, true}) {
        CAPTURE(storage);
        engine::Options options;
        options.device = test_device();
        options.kv_pool_bytes = 4U << 20;
        options.validation = true;
        options.force_storage = storage;
        options.candidates = true;
        Engine engine(image, options);
        const std::uint32_t each = engine.most_candidates();
        REQUIRE(each == std::min(64U, model.dims.vocabulary - 1));
        const auto whole = engine.create_sequence(40);
        const auto few = engine.create_sequence(40);
        const auto best = engine.create_sequence(40);
        Tokens tokens = {3, 1};
        for (std::uint64_t seed = 1; seed <= 30; ++seed) {
            CAPTURE(seed);
            const std::span<const std::uint32_t> next =
                seed == 1 ? std::span<const std::uint32_t>(tokens) : std::span(tokens).last(1);
            // Rows, candidates and a best token of one step; the order of chunks is free.
            const std::vector<Chunk> chunks = {{best.get(), next, Logits::greedy},
                                               {few.get(), next, Logits::top},
                                               {whole.get(), next, Logits::last}};
            const auto logits = engine.step(chunks);
            REQUIRE(logits.size() == model.dims.vocabulary);
            REQUIRE(engine.candidates().size() == each);
            REQUIRE(engine.ids().size() == 1);
            CHECK(engine.ids()[0] == engine.candidates()[0].id);
            for (const engine::Candidate& candidate : engine.candidates()) {
                CHECK(candidate.logit == logits[candidate.id]);
            }
            std::uint32_t picked = 0;
            for (std::uint32_t top_k : {1U, 4U, each}) {
                const engine::SamplingOptions sampling{
                    .temperature = 0.9F, .top_k = top_k, .top_p = 0.95F, .seed = seed};
                engine::Sampler of_row(sampling);
                engine::Sampler of_few(sampling);
                picked = of_row.pick(logits);
                CHECK(of_few.pick_among(engine.candidates()) == picked);
            }
            tokens.push_back(picked);
        }
    }
}

TEST_CASE("greedy: 200 tokens are the reference's over variants, batches and chains") {
    M4_NEEDS_DEVICE();
    TinyDims dims;
    dims.hidden = 32;
    dims.heads = 2;
    dims.kv_heads = 1;
    dims.feed_forward = 48;
    dims.context = 224;
    const TinyModel model = make_tiny_model(dims, kGreedySeed);
    std::vector<Tokens> prompts;
    std::vector<Tokens> expected;
    for (std::uint32_t i = 0; i < 8; ++i) {
        prompts.push_back(
            {(i * 37 + 11) % dims.vocabulary, (i * 101 + 5) % dims.vocabulary, i + 1});
        const Continuation one = continue_by_reference(model, prompts.back());
        CAPTURE(i);
        // Else the seed is a bad one: a near tie may go either way.
        REQUIRE(one.margin > 4 * kNoise);
        expected.push_back(one.tokens);
    }
    const TempFolder folder;
    write_tiny_model(model, folder / "image");
    const auto image = firmware::MappedImage::open_folder(folder / "image");
    struct Way {
        const char* name;
        bool storage, subgroups, addresses;
    };
    for (const Way& way :
         {Way{"texels, subgroups", false, true, false}, Way{"texels", false, false, false},
          Way{"storage", true, false, false}, Way{"addresses", false, false, true},
          Way{"addresses, subgroups beside them", false, true, true}}) {
        engine::Options options;
        options.device = test_device();
        options.kv_type = engine::KvType::f32;
        options.kv_pool_bytes = 4U << 20;
        options.validation = true;
        options.force_storage = way.storage;
        options.subgroups = way.subgroups;
        options.addresses = way.addresses;
        options.chain = 4;
        CAPTURE(std::string(way.name));
        Engine engine(image, options);
        CHECK(noise(engine, model, expected[0]) < kNoise);
        for (const std::size_t batch : {1U, 4U, 8U}) {
            for (const std::uint32_t passes : {1U, 4U}) {
                CAPTURE(batch);
                CAPTURE(passes);
                const std::vector<Tokens> some(
                    prompts.begin(), prompts.begin() + static_cast<std::ptrdiff_t>(batch));
                const auto made = continue_on_device(engine, some, passes);
                for (std::size_t i = 0; i < batch; ++i) {
                    CHECK(made[i] == expected[i]);
                }
                CHECK(engine.kv_use().used == 0);
            }
        }
    }
}

}  // namespace m4::test
