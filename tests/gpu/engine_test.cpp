// SPDX-License-Identifier: MIT
// The engine on random small models against the plain reference.
#include "engine/engine.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "gpu.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::test {

namespace {

using engine::Chunk;
using engine::Engine;
using engine::KvType;
using engine::Logits;
using engine::Options;

using Tokens = std::vector<std::uint32_t>;

constexpr double kQ8Tolerance = 1e-1;

Options test_options(KvType kv_type = KvType::f32) {
    Options options;
    options.device = test_device();
    options.kv_type = kv_type;
    options.kv_pool_bytes = 1U << 20;
    options.kv_page_positions = 8;  // so that a few tokens are many pages
    options.max_step_rows = 32;
    options.validation = true;
    return options;
}

/// A model, its image on disk, and an engine on it.
class Fixture {
   public:
    explicit Fixture(const TinyDims& dims, const Options& options = test_options())
        : model_(make_tiny_model(dims, 7)),
          image_([&] {
              write_tiny_model(model_, folder_ / "image");
              return firmware::MappedImage::open_folder(folder_ / "image");
          }()),
          engine_(image_, options) {}

    /// Until every kernel has run, those of the largest tiles, too.
    void warm_up() {
        while (engine_.warm_up()) {
        }
    }

    [[nodiscard]] const TinyModel& model() const { return model_; }
    [[nodiscard]] Engine& engine() { return engine_; }

    [[nodiscard]] Tokens random_tokens(std::size_t count, std::uint64_t seed = 1) const {
        std::mt19937_64 random(seed);
        Tokens tokens(count);
        for (std::uint32_t& token : tokens) {
            token = static_cast<std::uint32_t>(random() % model_.dims.vocabulary);
        }
        return tokens;
    }

    /// Logits of every token, computed in chunks of `chunk`.
    std::vector<float> run(const Tokens& tokens, std::size_t chunk, std::uint32_t capacity = 64) {
        const auto sequence = engine_.create_sequence(capacity);
        std::vector<float> all;
        for (std::size_t at = 0; at < tokens.size(); at += chunk) {
            const Chunk piece{sequence.get(),
                              std::span(tokens).subspan(at, std::min(chunk, tokens.size() - at)),
                              Logits::all};
            const auto logits = engine_.step({&piece, 1});
            all.insert(all.end(), logits.begin(), logits.end());
        }
        return all;
    }

   private:
    TempFolder folder_;
    TinyModel model_;
    firmware::MappedImage image_;
    Engine engine_;
};

template <typename A, typename B>
double largest_difference(const A& a, const B& b) {
    REQUIRE(a.size() == b.size());
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
        largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
    }
    return largest;
}

}  // namespace

TEST_CASE("engine: models of many shapes agree with the reference, in any chunks") {
    M4_NEEDS_DEVICE();
    struct Case {
        const char* name;
        TinyDims dims;
    };
    const std::vector<Case> cases = {
        {"plain", {}},
        {"tied, biases", {.tied = true, .query_bias = true}},
        {"odd sizes",
         {.vocabulary = 301,
          .hidden = 20,
          .layers = 3,
          .heads = 3,
          .kv_heads = 1,
          .head_dim = 20,
          .rotated = 12,
          .feed_forward = 43}},
        {"heads that fill no unit",
         {.hidden = 36, .heads = 4, .kv_heads = 4, .head_dim = 6, .rotated = 4, .fine_rows = 1}},
        {"f16 weights", {.hidden = 44, .feed_forward = 172, .stored = M4_DTYPE_F16}},
        {"q8 weights", {.stored = M4_DTYPE_Q8}},
        {"q4 weights, tied", {.tied = true, .query_bias = true, .stored = M4_DTYPE_Q4}},
    };
    for (const Case& c : cases) {
        CAPTURE(c.name);
        Fixture fixture{c.dims};
        const Tokens tokens = fixture.random_tokens(45);
        const auto expected = reference_logits(fixture.model(), tokens);
        CHECK(largest_difference(fixture.run(tokens, 32), expected) < 1e-3);  // cold
        fixture.warm_up();
        CHECK(largest_difference(fixture.run(tokens, 32), expected) < 1e-3);
        CHECK(largest_difference(fixture.run(tokens, 7), expected) < 1e-3);
        CHECK(largest_difference(fixture.run(tokens, 1), expected) < 1e-3);
    }
}

TEST_CASE("engine: groups of operators as one kernel compute what the operators do") {
    M4_NEEDS_DEVICE();
    struct Case {
        const char* name;
        TinyDims dims;
        std::size_t fewer;  ///< kernels than operators, in each layer and at the end
        KvType kv_type = KvType::f32;
        double tolerance = 1e-4;
    };
    // Of a layer's 17 operators, groups of 7, 2, 5 and 2 become one each; of
    // the last two, one. Where keys and values are stored apart, 6 of the 7.
    constexpr std::size_t kAll = 2 * (6 + 1 + 4 + 1) + 1;
    constexpr std::size_t kStoredApart = 2 * (5 + 1 + 4 + 1) + 1;
    // F16 keeps what it is given, save where the two round differently.
    constexpr double kF16 = 2e-3;
    constexpr std::size_t kNoProjection = 2 * (1 + 4 + 1) + 1;
    const std::vector<Case> cases = {
        {"f32", {}, kAll},
        {"f16, tails", {.hidden = 44, .feed_forward = 172, .stored = M4_DTYPE_F16}, kAll},
        {"q8", {.stored = M4_DTYPE_Q8}, kAll},
        {"q4, tied", {.tied = true, .stored = M4_DTYPE_Q4}, kAll},
        {"part of a head turns", {.rotated = 8}, kAll},
        {"biases are not of the group", {.query_bias = true}, kNoProjection},
        {"heads in no whole vec4s", {.head_dim = 18, .rotated = 16}, kNoProjection},
        {"f16 cache", {}, kAll, KvType::f16, kF16},
        {"f16 cache, one KV head, one row of 16",
         {.heads = 4, .kv_heads = 1, .head_dim = 16, .stored = M4_DTYPE_Q4},
         kAll,
         KvType::f16,
         kF16},
        {"f16 cache, heads of half units",
         {.head_dim = 20, .rotated = 12},
         kStoredApart,
         KvType::f16,
         kF16},
        {"f16 cache, part of a head turns",
         {.rotated = 8, .stored = M4_DTYPE_F16},
         kAll,
         KvType::f16,
         kF16},
        {"q8 cache", {}, kStoredApart, KvType::q8, kQ8Tolerance},
    };
    Options options = test_options();
    SUBCASE("texel") {}
    SUBCASE("storage") {
        options.force_storage = true;
    }
    SUBCASE("no subgroups") {
        options.subgroups = false;
    }
    SUBCASE("addresses") {
        options.addresses = true;
    }
    const bool all = !options.force_storage && options.subgroups && !options.addresses;
    for (const Case& c : cases) {
        CAPTURE(c.name);
        if (!all && (c.kv_type != KvType::f16 || c.fewer != kAll)) {
            continue;
        }
        Options together = options;
        together.kv_type = c.kv_type;
        Options apart = together;
        apart.fuse = false;
        Fixture fused{c.dims, together};
        Fixture plain{c.dims, apart};
        fused.warm_up();
        plain.warm_up();
        CHECK(plain.engine().report().kernels == fused.engine().report().kernels + c.fewer);
        const Tokens tokens = fused.random_tokens(45);
        for (const std::size_t chunk : {1U, 3U, 32U}) {
            CAPTURE(chunk);
            CHECK(largest_difference(fused.run(tokens, chunk), plain.run(tokens, chunk)) <
                  c.tolerance);
        }
    }
}

TEST_CASE("engine: attention over slices of a context computes the same") {
    M4_NEEDS_DEVICE();
    for (const KvType kv_type : {KvType::f32, KvType::f16, KvType::q8}) {
        Options sliced = test_options(kv_type);
        sliced.attention_slices = 3;
        Fixture whole{{}, test_options(kv_type)};
        Fixture fixture{{}, sliced};
        whole.warm_up();
        fixture.warm_up();
        const Tokens tokens = fixture.random_tokens(45);
        const auto sequence = fixture.engine().create_sequence(64);
        const Chunk chunk{sequence.get(), std::span(tokens).first(1), Logits::last};
        for (const engine::KernelTime& kernel : fixture.engine().profile({&chunk, 1}).kernels) {
            if (kernel.name == "attention") {  // and what merges, in each layer
                CHECK(kernel.dispatches == 2 * fixture.model().dims.layers);
            }
        }
        for (const std::size_t rows : {1U, 3U, 32U}) {
            CAPTURE(rows);
            CHECK(largest_difference(fixture.run(tokens, rows), whole.run(tokens, rows)) < 1e-4);
        }
    }
    Options many = test_options();
    many.attention_slices = 65;
    CHECK_THROWS_WITH_AS(Fixture({}, many), "attention_slices must be at most 64, not 65",
                         engine::DeviceError);
}

TEST_CASE("engine: how work is cut up is measured once, and kept") {
    M4_NEEDS_DEVICE();
    const TempFolder cache;
    Options options = test_options();
    options.cache_dir = cache / "kernels";
    std::filesystem::create_directory(options.cache_dir);
    const auto kept = [&] {
        std::string text;
        for (const auto& entry : std::filesystem::directory_iterator(options.cache_dir)) {
            if (entry.path().filename().string().starts_with("tuning-")) {
                std::ifstream in(entry.path());
                text.assign(std::istreambuf_iterator<char>(in), {});
            }
        }
        return text;
    };
    const auto check = [](Fixture& fixture) {
        const Tokens tokens = fixture.random_tokens(45);
        const auto expected = reference_logits(fixture.model(), tokens);
        CHECK(largest_difference(fixture.run(tokens, 32), expected) < 1e-3);
        CHECK(largest_difference(fixture.run(tokens, 1), expected) < 1e-3);
    };
    std::string measured;
    {
        Fixture first{TinyDims{}, options};
        check(first);
        CHECK(kept().empty());
        first.warm_up();
        measured = kept();
        CHECK(std::count(measured.begin(), measured.end(), '#') >= 2);
        check(first);
    }
    {
        Fixture second{TinyDims{}, options};
        CHECK(measured.starts_with(second.engine().report().tuning + "\n"));
        second.warm_up();
        CHECK(kept() == measured);
        check(second);
    }
    for (const auto& entry : std::filesystem::directory_iterator(options.cache_dir)) {
        if (entry.path().filename().string().starts_with("tuning-")) {
            std::ofstream(entry.path()) << "no such tuning\n";
        }
    }
    Fixture third{TinyDims{}, options};
    third.warm_up();
    CHECK(kept().find("no such") == std::string::npos);
    check(third);
}

TEST_CASE("engine: an F16 cache stays close") {
    M4_NEEDS_DEVICE();
    Fixture fixture{TinyDims{}, test_options(KvType::f16)};
    const Tokens tokens = fixture.random_tokens(45);
    const auto expected = reference_logits(fixture.model(), tokens);
    CHECK(largest_difference(fixture.run(tokens, 32), expected) < 2e-2);
    CHECK(largest_difference(fixture.run(tokens, 1), expected) < 2e-2);
}

TEST_CASE("engine: a Q8 cache stays close, and prefill to decode") {
    M4_NEEDS_DEVICE();
    for (const std::uint32_t head_dim : {16U, 20U, 64U}) {
        CAPTURE(head_dim);
        Fixture fixture{TinyDims{.head_dim = head_dim}, test_options(KvType::q8)};
        const Tokens tokens = fixture.random_tokens(45);
        const auto expected = reference_logits(fixture.model(), tokens);
        const auto prefilled = fixture.run(tokens, 32);
        const auto decoded = fixture.run(tokens, 1);
        MESSAGE("heads of ", head_dim, ": logits differ by at most ",
                largest_difference(prefilled, expected), ", decoded from prefilled by ",
                largest_difference(decoded, prefilled));
        CHECK(largest_difference(prefilled, expected) < kQ8Tolerance);
        CHECK(largest_difference(decoded, expected) < kQ8Tolerance);
        CHECK(largest_difference(decoded, prefilled) < 1e-2);
    }
}

TEST_CASE("engine: several sequences in a step are as each alone") {
    M4_NEEDS_DEVICE();
    Fixture fixture{TinyDims{}};
    Engine& engine = fixture.engine();
    const Tokens a = fixture.random_tokens(13, 1);
    const Tokens b = fixture.random_tokens(9, 2);
    const Tokens c = fixture.random_tokens(4, 3);
    const auto alone_a = fixture.run(a, 32);
    const auto alone_b = fixture.run(b, 32);
    const auto alone_c = fixture.run(c, 32);

    const auto in_a = engine.create_sequence(64);
    const auto in_b = engine.create_sequence(100);
    const auto in_c = engine.create_sequence(7);
    const Chunk start{in_a.get(), std::span(a).first(6), Logits::none};
    CHECK(engine.step({&start, 1}).empty());
    const std::vector<Chunk> mixed = {{in_b.get(), b, Logits::all},
                                      {in_a.get(), std::span(a).subspan(6), Logits::last},
                                      {in_c.get(), c, Logits::all}};
    const auto logits = engine.step(mixed);
    const std::size_t vocabulary = engine.vocabulary();
    REQUIRE(logits.size() == (9 + 1 + 4) * vocabulary);
    CHECK(largest_difference(logits.first(9 * vocabulary), alone_b) < 1e-4);
    CHECK(largest_difference(logits.subspan(9 * vocabulary, vocabulary),
                             std::span(alone_a).last(vocabulary)) < 1e-4);
    CHECK(largest_difference(logits.subspan(10 * vocabulary), alone_c) < 1e-4);
    CHECK(in_a->length() == 13);
    CHECK(in_b->length() == 9);
    CHECK(in_c->length() == 4);
    CHECK(in_c->capacity() == 7);
}

TEST_CASE("engine: rewind goes another way from an earlier token") {
    M4_NEEDS_DEVICE();
    Fixture fixture{TinyDims{}};
    Engine& engine = fixture.engine();
    Tokens tokens = fixture.random_tokens(12);
    const auto sequence = engine.create_sequence(32);
    const Chunk whole{sequence.get(), tokens, Logits::last};
    engine.step({&whole, 1});
    CHECK_THROWS_AS(sequence->rewind(13), std::invalid_argument);
    sequence->rewind(5);
    CHECK(sequence->length() == 5);
    tokens.resize(5);
    const Tokens other = fixture.random_tokens(4, 9);
    tokens.insert(tokens.end(), other.begin(), other.end());
    const Chunk again{sequence.get(), other, Logits::all};
    const auto logits = engine.step({&again, 1});
    const auto expected = reference_logits(fixture.model(), tokens);
    CHECK(largest_difference(logits, std::span(expected).subspan(5 * engine.vocabulary())) < 1e-3);
}

TEST_CASE("engine: pages come with tokens, are freed, and old content is never seen") {
    M4_NEEDS_DEVICE();
    Options options = test_options();
    // 2 layers x 2 heads x 16 floats x keys and values = 512 bytes a position.
    options.kv_pool_bytes = 3 * 8 * 512 + 100;
    Fixture fixture{TinyDims{}, options};
    Engine& engine = fixture.engine();
    CHECK(engine.report().kv_pool_bytes == 3 * 8 * 512);
    CHECK(engine.kv_use().pages == 3);
    CHECK(engine.kv_use().page_bytes == 8 * 512);
    CHECK(engine.create_sequence(25) == nullptr);
    auto first = engine.create_sequence(24);
    auto second = engine.create_sequence(24);
    REQUIRE((first && second));
    CHECK(engine.kv_use().used == 0);
    const Tokens tokens = fixture.random_tokens(24);
    const auto append = [&](engine::Sequence& sequence, std::size_t count) {
        const Chunk chunk{&sequence, std::span(tokens).first(count), Logits::none};
        engine.step({&chunk, 1});
    };
    append(*first, 9);
    append(*second, 3);
    CHECK(engine.kv_use().used == 3);
    CHECK(second->pages_needed(5) == 0);
    CHECK(second->pages_needed(6) == 1);
    CHECK_THROWS_WITH_AS(append(*second, 6),
                         "a step needs 1 pages of the KV pool, which has 0 free",
                         std::invalid_argument);
    CHECK(second->length() == 3);
    first->rewind(8);
    CHECK(engine.kv_use().used == 2);
    append(*second, 6);
    second.reset();
    CHECK(engine.kv_use().used == 1);
    first.reset();
    CHECK(engine.kv_use().used == 0);
    const Tokens others = fixture.random_tokens(20, 5);
    const auto expected = reference_logits(fixture.model(), others);
    CHECK(largest_difference(fixture.run(others, 3, 24), expected) < 1e-3);

    options.kv_pool_bytes = 8 * 512 - 1;
    CHECK_THROWS_AS(Fixture(TinyDims{}, options), engine::DeviceError);
    options.kv_page_positions = 12;
    CHECK_THROWS_AS(Fixture(TinyDims{}, options), engine::DeviceError);
}

TEST_CASE("engine: clones go on as the original, each its own way") {
    M4_NEEDS_DEVICE();
    for (const KvType kv_type : {KvType::f32, KvType::f16, KvType::q8}) {
        Fixture fixture{TinyDims{}, test_options(kv_type)};
        Engine& engine = fixture.engine();
        const double tolerance = kv_type == KvType::f32   ? 1e-3
                                 : kv_type == KvType::f16 ? 2e-2
                                                          : kQ8Tolerance;
        const Tokens prompt = fixture.random_tokens(13);
        const auto original = engine.create_sequence(64);
        const Chunk start{original.get(), prompt, Logits::none};
        engine.step({&start, 1});
        std::vector<std::unique_ptr<engine::Sequence>> sequences;
        std::vector<Tokens> ways;
        for (std::uint64_t i = 0; i < 4; ++i) {
            sequences.push_back(original->clone());
            ways.push_back(fixture.random_tokens(9, 20 + i));
        }
        CHECK(engine.kv_use().used == 2);
        CHECK(engine.kv_use().shared == 2);
        // The first goes back into the page that is full and shared.
        sequences[0]->rewind(5);
        // All in one step, the original among them.
        ways.push_back(fixture.random_tokens(9, 30));
        std::vector<Chunk> chunks;
        for (std::size_t i = 0; i < 4; ++i) {
            chunks.push_back({sequences[i].get(), std::span(ways[i]).first(6), Logits::all});
        }
        chunks.push_back({original.get(), std::span(ways[4]).first(6), Logits::all});
        const auto check = [&](std::span<const float> logits, std::size_t from, std::size_t count) {
            const std::size_t vocabulary = engine.vocabulary();
            for (std::size_t i = 0; i < chunks.size(); ++i) {
                CAPTURE(i);
                const std::size_t kept = i == 0 ? 5 : 13;
                Tokens whole(prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(kept));
                whole.insert(whole.end(), ways[i].begin(),
                             ways[i].begin() + static_cast<std::ptrdiff_t>(from + count));
                const auto expected = reference_logits(fixture.model(), whole);
                CHECK(largest_difference(logits.subspan(i * count * vocabulary, count * vocabulary),
                                         std::span(expected).subspan((kept + from) * vocabulary)) <
                      tolerance);
            }
        };
        check(engine.step(chunks), 0, 6);
        for (std::size_t i = 0; i < chunks.size(); ++i) {
            chunks[i].tokens = std::span(ways[i]).subspan(6);
        }
        check(engine.step(chunks), 6, 3);
        CHECK(engine.kv_use().shared == 1);  // page 0, of all but the first
        sequences.clear();
        CHECK(engine.kv_use().used == 3);  // of 22 tokens
        CHECK(engine.kv_use().shared == 0);
    }
}

TEST_CASE("engine: broken preconditions change nothing") {
    M4_NEEDS_DEVICE();
    Fixture fixture{TinyDims{}};
    Engine& engine = fixture.engine();
    CHECK_THROWS_AS((void)engine.create_sequence(0), std::invalid_argument);
    CHECK_THROWS_AS((void)engine.create_sequence(engine.context_length() + 1),
                    std::invalid_argument);
    const auto sequence = engine.create_sequence(8);
    const auto other = engine.create_sequence(64);
    const Tokens tokens = fixture.random_tokens(40);
    const Tokens outside = {engine.vocabulary()};
    const std::span all(tokens);
    const std::vector<std::vector<Chunk>> bad = {
        {{nullptr, all.first(1)}},
        {{sequence.get(), {}}},
        {{sequence.get(), outside}},
        {{sequence.get(), all.first(9)}},                                // no room
        {{other.get(), all.first(33)}},                                  // past max_step_rows
        {{other.get(), all.first(30)}, {sequence.get(), all.first(3)}},  // likewise
        {{sequence.get(), all.first(1)}, {sequence.get(), all.subspan(1, 1)}},  // twice
        {{other.get(), all.first(2)}, {sequence.get(), outside}},
    };
    for (std::size_t i = 0; i < bad.size(); ++i) {
        CAPTURE(i);
        CHECK_THROWS_AS(engine.step(bad[i]), std::invalid_argument);
        CHECK(sequence->length() == 0);
        CHECK(other->length() == 0);
    }
    Fixture stranger{TinyDims{}};
    const auto strange = stranger.engine().create_sequence(8);
    const Chunk chunk{strange.get(), all.first(1)};
    CHECK_THROWS_AS(engine.step({&chunk, 1}), std::invalid_argument);
    CHECK(engine.step({}).empty());
    const Chunk good{sequence.get(), all.first(8)};
    CHECK(engine.step({&good, 1}).size() == engine.vocabulary());
}

TEST_CASE("engine: weights of several shards are read where they are mapped") {
    M4_NEEDS_DEVICE();
    // More than 2 MiB of weights, so more than one shard of the test's size.
    Fixture fixture{{.vocabulary = 1000,
                     .hidden = 256,
                     .layers = 2,
                     .heads = 4,
                     .kv_heads = 2,
                     .head_dim = 64,
                     .rotated = 64,
                     .feed_forward = 300}};
    const engine::DeviceReport& report = fixture.engine().report();
    CHECK(report.weight_bytes > M4_IMAGE_CHUNK_BYTES);
    const bool imported = report.weights_import == "host_pointer";
    CHECK((imported ? report.copied_bytes == 0 : report.copied_bytes >= report.weight_bytes));
    const Tokens tokens = fixture.random_tokens(9);
    CHECK(largest_difference(fixture.run(tokens, 5), reference_logits(fixture.model(), tokens)) <
          1e-3);
}

}  // namespace m4::test
