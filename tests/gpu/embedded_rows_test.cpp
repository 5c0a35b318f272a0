// SPDX-License-Identifier: MIT
// Rows that stand for inputs of other senses: given a token's own row of the
// embedding, the backbone must compute what the token gives.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <random>
#include <stdexcept>

#include "engine/engine.hpp"
#include "gpu.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::test {

namespace {

using engine::Chunk;
using engine::EmbeddedRow;
using engine::Engine;
using engine::Logits;

struct Fixture {
    TempFolder folder;
    TinyModel model;
    firmware::MappedImage image;
    Engine engine;

    explicit Fixture(const TinyDims& dims)
        : model(make_tiny_model(dims, 7)),
          image([&] {
              write_tiny_model(model, folder / "image");
              return firmware::MappedImage::open_folder(folder / "image");
          }()),
          engine(image, {.device = test_device(),
                         .kv_type = engine::KvType::f32,
                         .kv_pool_bytes = 4 << 20,
                         .max_step_rows = 32,
                         .validation = true}) {}

    [[nodiscard]] std::vector<std::uint32_t> tokens(std::size_t count) const {
        std::mt19937 random(5);
        std::vector<std::uint32_t> made(count);
        for (std::uint32_t& token : made) {
            token = static_cast<std::uint32_t>(random() % model.dims.vocabulary);
        }
        return made;
    }
    [[nodiscard]] std::span<const float> row(std::uint32_t token) const {
        return std::span(model.embedding)
            .subspan(std::size_t{token} * model.dims.hidden, model.dims.hidden);
    }
};

/// Logits of all tokens in chunks; those for which `stands` says so are given as rows.
template <typename Stands>
std::vector<float> run(Fixture& fixture, const std::vector<std::uint32_t>& tokens,
                       std::size_t chunk, Stands&& stands) {
    const auto sequence = fixture.engine.create_sequence(64);
    std::vector<float> all;
    for (std::size_t at = 0; at < tokens.size(); at += chunk) {
        const std::size_t count = std::min(chunk, tokens.size() - at);
        std::vector<std::uint32_t> ids(count);
        std::vector<EmbeddedRow> rows;
        for (std::size_t i = 0; i < count; ++i) {
            if (stands(at + i)) {
                rows.push_back({static_cast<std::uint32_t>(i), fixture.row(tokens[at + i])});
            } else {
                ids[i] = tokens[at + i];
            }
        }
        const Chunk piece{sequence.get(), ids, Logits::all, rows};
        const auto logits = fixture.engine.step({&piece, 1});
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    REQUIRE(a.size() == b.size());
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double difference = std::abs(double{a[i]} - double{b[i]});
        largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
    }
    return largest;
}

}  // namespace

TEST_CASE("embedded rows: a token's own row is as good as the token") {
    M4_NEEDS_DEVICE();
    const std::vector<TinyDims> shapes = {{},
                                          {.vocabulary = 301,
                                           .hidden = 20,
                                           .heads = 3,
                                           .kv_heads = 1,
                                           .head_dim = 20,
                                           .rotated = 12,
                                           .feed_forward = 43}};
    for (const TinyDims& dims : shapes) {
        Fixture fixture(dims);
        CHECK(fixture.engine.embedded_columns() == dims.hidden);
        const auto tokens = fixture.tokens(40);
        const auto plain = run(fixture, tokens, 32, [](std::size_t) { return false; });
        for (const std::size_t chunk : {1U, 7U, 32U}) {
            CAPTURE(chunk);
            const auto third = [](std::size_t i) { return i % 3 == 1; };
            CHECK(largest_difference(run(fixture, tokens, chunk, third), plain) < 1e-4);
            const auto all = [](std::size_t) { return true; };
            CHECK(largest_difference(run(fixture, tokens, chunk, all), plain) < 1e-4);
        }
        // What was put in place is gone with its step.
        CHECK(run(fixture, tokens, 32, [](std::size_t) { return false; }) == plain);
    }
}

TEST_CASE("embedded rows: each lands in its sequence's chunk") {
    M4_NEEDS_DEVICE();
    Fixture fixture({});
    const auto tokens = fixture.tokens(6);
    const auto alone = run(fixture, tokens, 6, [](std::size_t) { return false; });
    const auto first = fixture.engine.create_sequence(16);
    const auto second = fixture.engine.create_sequence(16);
    std::vector<std::uint32_t> ids = tokens;
    ids[4] = 0;
    const EmbeddedRow row{4, fixture.row(tokens[4])};
    const std::array chunks = {Chunk{first.get(), tokens, Logits::last, {}},
                               Chunk{second.get(), ids, Logits::last, {&row, 1}}};
    const auto logits = fixture.engine.step(chunks);
    const std::uint32_t vocabulary = fixture.engine.vocabulary();
    REQUIRE(logits.size() == 2 * vocabulary);
    const std::vector<float> wanted(alone.end() - vocabulary, alone.end());
    CHECK(largest_difference({logits.begin(), logits.begin() + vocabulary}, wanted) < 1e-4);
    CHECK(largest_difference({logits.begin() + vocabulary, logits.end()}, wanted) < 1e-4);
}

TEST_CASE("embedded rows: what fits no chunk is refused, and nothing changes") {
    M4_NEEDS_DEVICE();
    Fixture fixture({});
    const auto tokens = fixture.tokens(4);
    const auto sequence = fixture.engine.create_sequence(16);
    const auto refused = [&](std::vector<EmbeddedRow> rows) {
        const Chunk chunk{sequence.get(), tokens, Logits::last, rows};
        CHECK_THROWS_AS((void)fixture.engine.step({&chunk, 1}), std::invalid_argument);
        CHECK(sequence->length() == 0);
    };
    const auto row = fixture.row(1);
    refused({{4, row}});
    refused({{2, row}, {2, row}});
    refused({{2, row}, {1, row}});
    refused({{0, row.first(row.size() - 1)}});
    refused({{0, {}}});
}

}  // namespace m4::test
