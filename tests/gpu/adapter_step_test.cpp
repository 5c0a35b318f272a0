// SPDX-License-Identifier: MIT
// Adapters in the engine: a step of many against models whose matrices have the
// low-rank products added, computed plainly.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <stdexcept>

#include "engine/engine.hpp"
#include "gpu.hpp"
#include "lib/half.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::test {

namespace {

using engine::Adapter;
using engine::Chunk;
using engine::Engine;
using engine::Logits;
using engine::LowRankPair;
using engine::Options;

using Tokens = std::vector<std::uint32_t>;

constexpr double kTolerance = 2e-4;

Options test_options() {
    Options options;
    options.device = test_device();
    options.kv_type = engine::KvType::f32;
    options.kv_pool_bytes = 1U << 20;
    options.kv_page_positions = 8;
    options.max_step_rows = 32;
    options.validation = true;
    return options;
}

/// What one random adapter is, before it is packed, and the model that it makes.
struct Tuned {
    struct Pair {
        std::string tensor;
        std::uint32_t rank = 0;
        float scale = 0;
        std::vector<float> a, b;
        std::vector<std::uint16_t> half_a, half_b;
        m4_row_order order = M4_ROW_ORDER_NONE;
    };
    std::vector<Pair> pairs;
    TinyModel model;
};

struct Kind {
    std::uint32_t rank = 8;
    bool halves = false;
    m4_row_order order = M4_ROW_ORDER_INTERLEAVED;  ///< of q and k
    bool attention_only = false;
    std::uint64_t seed = 1;
};

/// Adds a random pair for `matrix`, of `rows` rows, and the product to it; `head_dim`: 0
/// where it is not rotated.
void tune(std::vector<float>& matrix, const std::string& tensor, std::size_t rows,
          std::uint32_t head_dim, const Kind& kind, std::mt19937_64& random, Tuned& tuned) {
    Tuned::Pair pair{tensor, kind.rank, 0.75F, {}, {}, {}, {}, kind.order};
    const std::size_t columns = matrix.size() / rows;
    std::normal_distribution<float> normal(0, 0.08F);
    const auto fill = [&](std::vector<float>& values, std::vector<std::uint16_t>& halves,
                          std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint16_t half = firmware::to_half(normal(random));
            halves.push_back(half);
            values.push_back(firmware::from_half(half));
        }
    };
    fill(pair.a, pair.half_a, kind.rank * columns);
    fill(pair.b, pair.half_b, rows * kind.rank);
    for (std::size_t row = 0; row < rows; ++row) {
        std::size_t source = row;
        if (head_dim != 0 && kind.order == M4_ROW_ORDER_HALF_SPLIT) {
            const std::size_t inside = row % head_dim;
            source = row - inside + inside / 2 + inside % 2 * (head_dim / 2);
        }
        for (std::size_t column = 0; column < columns; ++column) {
            double sum = 0;
            for (std::uint32_t j = 0; j < kind.rank; ++j) {
                sum += static_cast<double>(pair.b[source * kind.rank + j]) *
                       static_cast<double>(pair.a[j * columns + column]);
            }
            matrix[row * columns + column] += static_cast<float>(0.75 * sum);
        }
    }
    tuned.pairs.push_back(std::move(pair));
}

Tuned make_tuned(const TinyModel& base, const Kind& kind) {
    Tuned tuned{{}, base};
    std::mt19937_64 random(kind.seed);
    const TinyDims& dims = base.dims;
    const std::uint32_t width = dims.heads * dims.head_dim;
    const std::uint32_t kv_width = dims.kv_heads * dims.head_dim;
    for (std::size_t i = 0; i < base.layers.size(); ++i) {
        if (kind.attention_only && i == 0) {
            continue;
        }
        TinyLayer& layer = tuned.model.layers[i];
        const auto tune_matrix = [&](const char* name, std::vector<float>& matrix,
                                     std::uint32_t rows, std::uint32_t head_dim = 0) {
            tune(matrix, "layer." + std::to_string(i) + "." + name + ".weight", rows, head_dim,
                 kind, random, tuned);
        };
        tune_matrix("q", layer.wq, width, dims.head_dim);
        tune_matrix("v", layer.wv, kv_width);
        if (!kind.attention_only) {
            tune_matrix("k", layer.wk, kv_width, dims.head_dim);
            tune_matrix("o", layer.wo, dims.hidden);
            tune_matrix("gate", layer.gate, dims.feed_forward);
            tune_matrix("up", layer.up, dims.feed_forward);
            tune_matrix("down", layer.down, dims.hidden);
        }
    }
    if (!kind.attention_only && !dims.tied) {
        tune(tuned.model.output, "output", dims.vocabulary, 0, kind, random, tuned);
    }
    return tuned;
}

std::vector<LowRankPair> pairs_of(const Tuned& tuned, const firmware::Image& image, bool halves) {
    std::vector<LowRankPair> pairs;
    for (const Tuned::Pair& pair : tuned.pairs) {
        const auto tensors = image.tensors();
        const auto found = std::find_if(
            tensors.begin(), tensors.end(),
            [&](const firmware::Tensor& tensor) { return tensor.name == pair.tensor; });
        REQUIRE_MESSAGE(found != tensors.end(), pair.tensor);
        LowRankPair& made = pairs.emplace_back();
        made.tensor = static_cast<std::uint32_t>(found - tensors.begin());
        made.rank = pair.rank;
        made.scale = pair.scale;
        made.dtype = halves ? M4_DTYPE_F16 : M4_DTYPE_F32;
        made.order = pair.order;
        made.a = halves ? std::as_bytes(std::span(pair.half_a)) : std::as_bytes(std::span(pair.a));
        made.b = halves ? std::as_bytes(std::span(pair.half_b)) : std::as_bytes(std::span(pair.b));
    }
    return pairs;
}

class Fixture {
   public:
    Fixture(const TinyDims& dims, const Options& options)
        : model_(make_tiny_model(dims, 7)),
          image_([&] {
              write_tiny_model(model_, folder_ / "image");
              return firmware::MappedImage::open_folder(folder_ / "image");
          }()),
          engine_(image_, options) {}

    [[nodiscard]] const TinyModel& model() const { return model_; }
    [[nodiscard]] Engine& engine() { return engine_; }
    [[nodiscard]] const firmware::Image& image() const { return image_.image(); }

    [[nodiscard]] Tokens random_tokens(std::size_t count, std::uint64_t seed) const {
        std::mt19937_64 random(seed);
        Tokens tokens(count);
        for (std::uint32_t& token : tokens) {
            token = static_cast<std::uint32_t>(random() % model_.dims.vocabulary);
        }
        return tokens;
    }

   private:
    TempFolder folder_;
    TinyModel model_;
    firmware::MappedImage image_;
    Engine engine_;
};

/// One after the other `step` tokens of each, all with their adapters in one step;
/// logits of each.
std::vector<std::vector<float>> run_together(Engine& engine, const std::vector<Tokens>& texts,
                                             const std::vector<Adapter*>& adapters,
                                             std::size_t step) {
    std::vector<std::unique_ptr<engine::Sequence>> sequences;
    for (const Tokens& text : texts) {
        sequences.push_back(engine.create_sequence(static_cast<std::uint32_t>(text.size())));
    }
    std::vector<std::vector<float>> logits(texts.size());
    for (std::size_t at = 0; at < texts[0].size(); at += step) {
        std::vector<Chunk> chunks;
        for (std::size_t i = 0; i < texts.size(); ++i) {
            const std::size_t count = std::min(step, texts[i].size() - at);
            chunks.push_back(
                {sequences[i].get(), std::span(texts[i]).subspan(at, count), Logits::all});
            chunks.back().adapter = adapters[i];
        }
        std::span<const float> rows = engine.step(chunks);
        for (std::size_t i = 0; i < texts.size(); ++i) {
            const std::size_t floats = chunks[i].tokens.size() * engine.vocabulary();
            logits[i].insert(logits[i].end(), rows.begin(),
                             rows.begin() + static_cast<std::ptrdiff_t>(floats));
            rows = rows.subspan(floats);
        }
    }
    return logits;
}

double difference(const std::vector<float>& got, const std::vector<double>& wanted) {
    REQUIRE(got.size() == wanted.size());
    double largest = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double one = std::abs(static_cast<double>(got[i]) - wanted[i]);
        largest = std::isnan(one) ? HUGE_VAL : std::max(largest, one);
    }
    return largest;
}

/// Five sequences, four of them with different adapters.
void check_together(const TinyDims& dims, const Options& options, const char* name,
                    const std::vector<bool>& warmth = {true}) {
    CAPTURE(name);
    Fixture fixture(dims, options);
    Engine& engine = fixture.engine();
    const std::vector<Kind> kinds = {{.rank = 8, .seed = 11},
                                     {.rank = 3, .order = M4_ROW_ORDER_HALF_SPLIT, .seed = 12},
                                     {.rank = 20, .halves = true, .seed = 13},
                                     {.rank = 6,
                                      .halves = true,
                                      .order = M4_ROW_ORDER_HALF_SPLIT,
                                      .attention_only = true,
                                      .seed = 14}};
    std::vector<Tuned> tuned;
    std::vector<std::unique_ptr<Adapter>> adapters;
    std::vector<Adapter*> used;
    std::vector<Tokens> texts;
    std::vector<std::vector<double>> wanted;
    for (const Kind& kind : kinds) {
        tuned.push_back(make_tuned(fixture.model(), kind));
        adapters.push_back(
            engine.create_adapter(pairs_of(tuned.back(), fixture.image(), kind.halves)));
        used.push_back(adapters.back().get());
        texts.push_back(fixture.random_tokens(12, kind.seed));
        wanted.push_back(reference_logits(tuned.back().model, texts.back()));
    }
    used.insert(used.begin() + 2, nullptr);
    texts.insert(texts.begin() + 2, fixture.random_tokens(12, 5));
    wanted.insert(wanted.begin() + 2, reference_logits(fixture.model(), texts[2]));
    // Adapters must change something, or the test shows nothing.
    CHECK(difference(std::vector<float>(wanted[2].begin(), wanted[2].end()),
                     reference_logits(tuned[0].model, texts[2])) > 0.05);

    for (const bool warm : warmth) {
        while (warm && engine.warm_up()) {
        }
        for (const std::size_t step : {1U, 5U}) {
            CAPTURE(step);
            const auto logits = run_together(engine, texts, used, step);
            for (std::size_t i = 0; i < texts.size(); ++i) {
                CAPTURE(i);
                CHECK(difference(logits[i], wanted[i]) < kTolerance);
            }
        }
    }
    const engine::AdapterUse use = engine.adapter_use();
    CHECK(use.resident == 4);
    CHECK(use.loads == 4);
    CHECK(use.evictions == 0);
}

}  // namespace

TEST_CASE("adapters: many in one step, each as if its products were in the matrices") {
    M4_NEEDS_DEVICE();
    const TinyDims plain;
    Options options = test_options();
    check_together(plain, options, "fused", {false, true});
    options.fuse = false;
    check_together(plain, options, "one by one");
    options.fuse = true;
    options.subgroups = false;
    check_together(plain, options, "without subgroups");
    options.force_storage = true;
    check_together(plain, options, "storage buffers");
    options = test_options();
    options.addresses = true;
    check_together(plain, options, "by address");
}

TEST_CASE("adapters: over quantised matrices, odd shapes and biases") {
    M4_NEEDS_DEVICE();
    TinyDims q4;
    q4.stored = M4_DTYPE_Q4;
    check_together(q4, test_options(), "q4");
    TinyDims odd;
    odd.hidden = 52;
    odd.feed_forward = 70;
    odd.head_dim = 10;
    odd.rotated = 10;
    odd.query_bias = true;
    odd.tied = true;
    odd.vocabulary = 301;
    check_together(odd, test_options(), "odd");
}

TEST_CASE("adapters: a small pool pages them, and answers stay the same") {
    M4_NEEDS_DEVICE();
    const TinyDims dims;
    Options options = test_options();
    Fixture probe(dims, options);
    std::vector<Tuned> tuned;
    std::uint64_t bytes = 0;
    for (std::uint64_t seed = 21; seed < 26; ++seed) {
        const Kind kind{.rank = static_cast<std::uint32_t>(4 * (seed - 20)), .seed = seed};
        tuned.push_back(make_tuned(probe.model(), kind));
        bytes = std::max(
            bytes,
            probe.engine().create_adapter(pairs_of(tuned.back(), probe.image(), false))->bytes());
    }
    options.adapter_pool_bytes = bytes + bytes / 2 + 16;
    Fixture fixture(dims, options);
    Engine& engine = fixture.engine();
    std::vector<std::unique_ptr<Adapter>> adapters;
    for (const Tuned& one : tuned) {
        adapters.push_back(engine.create_adapter(pairs_of(one, fixture.image(), false)));
    }
    const Tokens text = fixture.random_tokens(6, 3);
    for (int round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < adapters.size(); ++i) {
            const std::size_t which = round == 1 ? adapters.size() - 1 - i : i;
            CAPTURE(which);
            const auto logits = run_together(engine, {text}, {adapters[which].get()}, 3);
            CHECK(difference(logits[0], reference_logits(tuned[which].model, text)) < kTolerance);
        }
    }
    CHECK(engine.adapter_use().evictions > 4);
    CHECK(engine.adapter_use().used_bytes <= engine.adapter_pool_bytes());

    // Two that fit only side by side, whatever lay between before.
    const auto logits =
        run_together(engine, {text, text}, {adapters[4].get(), adapters[0].get()}, 6);
    CHECK(difference(logits[0], reference_logits(tuned[4].model, text)) < kTolerance);
    CHECK(difference(logits[1], reference_logits(tuned[0].model, text)) < kTolerance);

    // More than the pool: refused whole, and nothing has changed.
    const auto sequence = engine.create_sequence(8);
    const auto other = engine.create_sequence(8);
    std::vector<Chunk> chunks = {{sequence.get(), text, Logits::last},
                                 {other.get(), text, Logits::last}};
    chunks[0].adapter = adapters[4].get();
    chunks[1].adapter = adapters[3].get();
    CHECK_THROWS_AS((void)engine.step(chunks), std::invalid_argument);
    CHECK(sequence->length() == 0);

    adapters[4].reset();
    CHECK(engine.adapter_use().used_bytes <= bytes);
}

TEST_CASE("adapters: greedy passes chained in a submission have them, too") {
    M4_NEEDS_DEVICE();
    Options options = test_options();
    options.chain = 4;
    Fixture fixture({}, options);
    Engine& engine = fixture.engine();
    const Tuned tuned = make_tuned(fixture.model(), {.rank = 8, .seed = 31});
    const auto adapter = engine.create_adapter(pairs_of(tuned, fixture.image(), false));
    Tokens text = fixture.random_tokens(5, 8);
    const auto sequence = engine.create_sequence(32);
    const auto bare = engine.create_sequence(32);
    const Tokens begin(text.begin(), text.end() - 1);
    std::vector<Chunk> chunks = {{sequence.get(), begin, Logits::none},
                                 {bare.get(), begin, Logits::none}};
    chunks[0].adapter = adapter.get();
    engine.step(chunks);
    const std::uint32_t last = text.back();
    chunks[0].tokens = {&last, 1};
    chunks[1].tokens = {&last, 1};
    chunks[0].logits = chunks[1].logits = Logits::greedy;
    engine.step(chunks, 4);
    Tokens with(engine.ids().begin(), engine.ids().end());
    // Pass by pass, the two side by side.
    Tokens plain = text;
    for (std::size_t pass = 0; pass < 4; ++pass) {
        const auto best = [&](const TinyModel& model, const Tokens& tokens) {
            const auto logits = reference_logits(model, tokens);
            const auto row = logits.end() - model.dims.vocabulary;
            return static_cast<std::uint32_t>(std::max_element(row, logits.end()) - row);
        };
        CHECK(with[2 * pass] == best(tuned.model, text));
        CHECK(with[2 * pass + 1] == best(fixture.model(), plain));
        text.push_back(with[2 * pass]);
        plain.push_back(with[2 * pass + 1]);
    }
}

TEST_CASE("adapters: pairs that do not fit are refused with their matrix's name") {
    M4_NEEDS_DEVICE();
    Fixture fixture({}, test_options());
    const Tuned tuned = make_tuned(fixture.model(), {.rank = 8, .attention_only = true});
    const auto pairs = pairs_of(tuned, fixture.image(), false);
    const auto refused = [&](const std::vector<LowRankPair>& wrong, const std::string& says) {
        CAPTURE(says);
        try {
            (void)fixture.engine().create_adapter(wrong);
            FAIL("taken");
        } catch (const std::invalid_argument& error) {
            CHECK(std::string(error.what()).find(says) != std::string::npos);
        }
    };
    auto wrong = pairs;
    wrong[0].rank = 0;
    refused(wrong, "rank 0");
    wrong = pairs;
    wrong[0].rank = 257;
    refused(wrong, "rank 257");
    wrong = pairs;
    wrong[1].a = wrong[1].a.first(wrong[1].a.size() - 4);
    refused(wrong, "v.weight' has not the bytes");
    wrong = pairs;
    wrong.push_back(pairs[0]);
    refused(wrong, "is there twice");
    wrong = pairs;
    wrong[0].tensor = 10'000;
    refused(wrong, "no linear's weight");
    wrong = pairs;
    wrong[0].dtype = M4_DTYPE_Q8;
    refused(wrong, "neither F32 nor F16");

    Fixture other({}, test_options());
    const auto adapter = other.engine().create_adapter(pairs);
    const auto sequence = fixture.engine().create_sequence(4);
    const Tokens text = fixture.random_tokens(2, 1);
    Chunk chunk{sequence.get(), text, Logits::last};
    chunk.adapter = adapter.get();
    CHECK_THROWS_AS((void)fixture.engine().step({&chunk, 1}), std::invalid_argument);
}

}  // namespace m4::test
