// SPDX-License-Identifier: MIT
// A trained model against its float64 reference: stories260K, from the
// reference data folder.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/engine.hpp"
#include "engine/sampler.hpp"
#include "gpu.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "reference_data.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

using engine::Chunk;
using engine::Engine;
using engine::KvType;
using engine::Logits;

/// The reference's own files.
struct Golden {
    std::filesystem::path folder;
    nlohmann::json stories;
    ReferenceData logits;

    explicit Golden(const std::string& data)
        : folder(data + "/stories260K"), logits(folder / "logits.safetensors") {
        std::ifstream(folder / "golden.json") >> stories;
    }
};

class Model {
   public:
    Model(const std::filesystem::path& file, m4_dtype stored, KvType kv_type)
        : image_([&] {
              firmware::ImageBuilder builder("stories", "test", 0);
              firmware::import_model({.from = file, .stored = stored}, builder);
              builder.write(folder_ / "image", false);
              return firmware::MappedImage::open_folder(folder_ / "image");
          }()),
          engine_(image_, [&] {
              engine::Options options;
              options.device = test_device();
              options.kv_type = kv_type;
              options.kv_pool_bytes = 8U << 20;
              options.validation = true;
              return options;
          }()) {}

    [[nodiscard]] Engine& engine() { return engine_; }

    std::vector<float> run(const std::vector<std::uint32_t>& tokens, std::size_t chunk) {
        const auto sequence = engine_.create_sequence(engine_.context_length());
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
    firmware::MappedImage image_;
    Engine engine_;
};

/// The largest difference of log-probabilities, over all positions and tokens.
double logprob_difference(const std::vector<float>& a, const std::vector<float>& b,
                          std::size_t vocabulary) {
    REQUIRE(a.size() == b.size());
    const auto log_sum = [&](const std::vector<float>& logits, std::size_t at) {
        double sum = 0;
        for (std::size_t i = at; i < at + vocabulary; ++i) {
            sum += std::exp(static_cast<double>(logits[i]));
        }
        return std::log(sum);
    };
    double largest = 0;
    for (std::size_t at = 0; at < a.size(); at += vocabulary) {
        const double shift = log_sum(a, at) - log_sum(b, at);
        for (std::size_t i = at; i < at + vocabulary; ++i) {
            const double difference =
                std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]) - shift);
            largest = std::isnan(difference) ? HUGE_VAL : std::max(largest, difference);
        }
    }
    return largest;
}

/// Of the tokens that came, by the logits before each.
double mean_logprob(const std::vector<float>& logits, const std::vector<std::uint32_t>& ids,
                    std::size_t vocabulary) {
    double sum = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        const auto row = std::span(logits).subspan(i * vocabulary, vocabulary);
        sum += static_cast<double>(engine::token_logprob(row, ids[i + 1]));
    }
    return sum / static_cast<double>(ids.size() - 1);
}

void check_logprobs(const Golden& golden, Model& model, std::size_t chunk, double bound) {
    for (const auto& [name, story] : golden.stories.items()) {
        CAPTURE(name);
        CAPTURE(chunk);
        const auto ids = story.at("ids").get<std::vector<std::uint32_t>>();
        const double difference = logprob_difference(
            model.run(ids, chunk), golden.logits.read<float>(name), model.engine().vocabulary());
        MESSAGE("stories260K ", name, ": log-probabilities differ by at most ", difference);
        CHECK(difference < bound);
    }
}

}  // namespace

TEST_CASE("stories260K: log-probabilities with an F32 cache") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    M4_NEEDS_DEVICE();
    const Golden golden(data);
    Model model(golden.folder / "stories260K.f32.gguf", M4_DTYPE_F32, KvType::f32);
    check_logprobs(golden, model, 64, 1e-3);
    check_logprobs(golden, model, 1, 1e-3);
}

TEST_CASE("stories260K: log-probabilities with an F16 cache") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    M4_NEEDS_DEVICE();
    const Golden golden(data);
    Model model(golden.folder / "stories260K.f32.gguf", M4_DTYPE_F32, KvType::f16);
    check_logprobs(golden, model, 64, 5e-2);
}

TEST_CASE("stories260K: log-probabilities with a Q8 cache") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    M4_NEEDS_DEVICE();
    const Golden golden(data);
    Model model(golden.folder / "stories260K.f32.gguf", M4_DTYPE_F32, KvType::q8);
    // Of the tokens that no one expects, too.
    check_logprobs(golden, model, 64, 2.5);
    const std::uint32_t vocabulary = model.engine().vocabulary();
    for (const auto& [name, story] : golden.stories.items()) {
        CAPTURE(name);
        const auto ids = story.at("ids").get<std::vector<std::uint32_t>>();
        const double expected = mean_logprob(golden.logits.read<float>(name), ids, vocabulary);
        for (const std::size_t chunk : {64U, 1U}) {
            const double mean = mean_logprob(model.run(ids, chunk), ids, vocabulary);
            MESSAGE("stories260K ", name, ": mean log-probability ", mean, ", not ", expected);
            CHECK(std::abs(mean - expected) < 2e-2);
        }
    }
}

TEST_CASE("stories260K: greedy decoding gives the golden ids") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    M4_NEEDS_DEVICE();
    const Golden golden(data);
    Model model(golden.folder / "stories260K.f16.gguf", M4_DTYPE_F16, KvType::f16);
    for (const auto& [name, story] : golden.stories.items()) {
        CAPTURE(name);
        const auto expected = story.at("ids").get<std::vector<std::uint32_t>>();
        auto tokens = story.at("prompt_ids").get<std::vector<std::uint32_t>>();
        engine::Sampler sampler({});
        const auto sequence = model.engine().create_sequence(model.engine().context_length());
        Chunk chunk{sequence.get(), tokens, Logits::last};
        while (tokens.size() < expected.size()) {
            tokens.push_back(sampler.pick(model.engine().step({&chunk, 1})));
            chunk.tokens = std::span(tokens).last(1);
        }
        CHECK(tokens == expected);
    }
}

}  // namespace m4::test
