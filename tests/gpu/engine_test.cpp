// SPDX-License-Identifier: MIT
// The engine on random small models against the plain reference.
#include "engine/engine.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
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

Options test_options(KvType kv_type = KvType::f32) {
    Options options;
    options.device = test_device();
    options.kv_type = kv_type;
    options.kv_pool_bytes = 1U << 20;
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
    std::vector<float> run(const Tokens& tokens, std::size_t chunk) {
        const auto sequence = engine_.create_sequence(model_.dims.context);
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

TEST_CASE("engine: agrees with the reference") {
    M4_NEEDS_DEVICE();
    Fixture fixture{TinyDims{}};
    const Tokens tokens = fixture.random_tokens(20);
    const auto expected = reference_logits(fixture.model(), tokens);
    CHECK(largest_difference(fixture.run(tokens, 20), expected) < 1e-3);
    CHECK(largest_difference(fixture.run(tokens, 1), expected) < 1e-3);
    CHECK(largest_difference(fixture.run(tokens, 7), expected) < 1e-3);
}

}  // namespace m4::test
