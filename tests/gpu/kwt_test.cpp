// SPDX-License-Identifier: MIT
// KWT from its TensorFlow Lite graph: a random one against a plain computation, the
// trained one against its clips.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>

#include "gpu.hpp"
#include "kwt_writer.hpp"
#include "media/prepare.hpp"
#include "senses.hpp"

namespace m4::test {

namespace {

template <typename T>
T number_at(const std::string& bytes, std::size_t at) {
    T value{};
    std::memcpy(&value, bytes.substr(at, sizeof(T)).c_str(), sizeof(T));
    return value;
}

/// Samples of a RIFF file of one channel, 16-bit integers or floats.
std::vector<float> wav_samples(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(file), {}};
    REQUIRE(bytes.size() > 44);
    std::uint16_t format = 0;
    std::vector<float> samples;
    for (std::size_t at = 12; at + 8 <= bytes.size();) {
        const std::string id = bytes.substr(at, 4);
        const auto size = number_at<std::uint32_t>(bytes, at + 4);
        at += 8;
        if (id == "fmt ") {
            format = number_at<std::uint16_t>(bytes, at);
        } else if (id == "data") {
            const std::size_t width = format == 3 ? 4 : 2;
            for (std::size_t i = 0; i + width <= size; i += width) {
                samples.push_back(format == 3
                                      ? number_at<float>(bytes, at + i)
                                      : static_cast<float>(number_at<std::int16_t>(bytes, at + i)) /
                                            32768);
            }
        }
        at += size + size % 2;
    }
    return samples;
}

/// By m4d's own preparation. What the clip says of its rate is not asked: the reference
/// took each as it is.
std::vector<float> prepared(const firmware::Recipe& recipe, const std::vector<float>& samples) {
    const media::Descriptor descriptor = {
        .kind = media::Kind::pcm_f32, .channels = 1, .samples = samples.size(), .rate_hz = 16'000};
    return media::prepare(recipe, firmware::shape_of(recipe), descriptor,
                          std::as_bytes(std::span(samples)))
        .features;
}

}  // namespace

TEST_CASE("kwt: a graph of random weights gives the plain scores") {
    M4_NEEDS_DEVICE();
    const KwtSizes sizes;
    const PlainTensors tensors = random_kwt(sizes, 3);
    const TempFolder folder;
    write_file(folder / "kwt.tflite", kwt_tflite(sizes, tensors));
    Senses senses(folder / "kwt.tflite");
    engine::Encoder& encoder = senses.at("audio");
    CHECK(encoder.features().rows == sizes.frames());
    CHECK(encoder.features().columns == sizes.coefficients);
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.1F);
    for (int i = 0; i < 3; ++i) {
        std::vector<float> samples(sizes.samples);
        std::generate(samples.begin(), samples.end(), [&] { return normal(random); });
        CHECK(relative(encode(encoder, kwt_features(sizes, samples), &engine::Encoded::scores),
                       kwt_scores(sizes, tensors, kwt_front_end(sizes, samples))) < 1e-4);
    }
}

TEST_CASE("kwt: the trained one names all 39 clips, with the reference's logits") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::filesystem::path folder = std::filesystem::path(shared_data()) / "kwt1";
    std::ifstream in(folder / "golden.json");
    const auto golden = nlohmann::json::parse(in);
    Senses senses(folder / "kwt1.tflite");
    const firmware::Part& part = senses.image().package().parts.at(0);
    const auto& labels = part.labels;
    CHECK(labels == golden.at("labels").get<std::vector<std::string>>());
    const KwtSizes sizes = published_kwt();
    std::size_t clips = 0;
    std::size_t right = 0;
    double largest = 0;
    double of_recipe = 0;
    for (const auto& [name, clip] : golden.at("clips").items()) {
        CAPTURE(name);
        auto samples = wav_samples(folder / "wav" / (name + ".wav"));
        const auto ours =
            encode(senses.at("audio"), prepared(part.recipe, samples), &engine::Encoded::scores);
        samples.resize(sizes.samples);
        const auto scores =
            encode(senses.at("audio"), kwt_features(sizes, samples), &engine::Encoded::scores);
        const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
        right += labels.at(static_cast<std::size_t>(best)) == clip.at("label");
        ++clips;
        const auto wanted = clip.at("logits").get<std::vector<float>>();
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            largest = std::max(largest, std::abs(double{scores.at(i)} - double{wanted[i]}));
            of_recipe = std::max(of_recipe, std::abs(double{ours.at(i)} - double{wanted[i]}));
        }
    }
    CHECK(clips == 39);
    CHECK(right == 39);
    MESSAGE("largest difference of a logit: ", largest, "; by the recipe ", of_recipe);
    CHECK(largest < 1e-2);
    CHECK(of_recipe < 1e-2);
}

}  // namespace m4::test
