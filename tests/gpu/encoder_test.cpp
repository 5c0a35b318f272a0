// SPDX-License-Identifier: MIT
// Encoders from their checkpoints to their results: against the reference data,
// and a random one against itself in other company.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>

#include "checkpoint_writer.hpp"
#include "gpu.hpp"
#include "senses.hpp"
#include "temp_folder.hpp"

namespace m4::test {

using engine::Encoder;

TEST_CASE("encoder: inputs together compute what each does alone, whichever way is read") {
    M4_NEEDS_DEVICE();
    const TempFolder folder;
    write_file(folder / "limu.safetensors", safetensors_bytes(random_limu()));
    Senses texel(folder / "limu.safetensors", {.max_items = 3});
    Senses storage(folder / "limu.safetensors", {.max_items = 8, .force_storage = true});
    Encoder& encoder = texel.at("imu");
    CHECK(encoder.features().rows == 120);
    CHECK(encoder.features().columns == 6);
    CHECK(encoder.hidden().columns == 24);
    CHECK(encoder.embedding().rows == 1);
    CHECK(encoder.scores().rows == 0);
    std::vector<float> data(encoder.features().floats(5));
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::generate(data.begin(), data.end(), [&] { return normal(random); });
    const auto together = encode(encoder, data, &engine::Encoded::hidden);
    std::vector<float> alone;
    for (std::uint32_t i = 0; i < 5; ++i) {
        const auto one = encoder.run(std::span(data).subspan(i * 720, 720)).hidden;
        alone.insert(alone.end(), one.begin(), one.end());
    }
    CHECK(together.size() == 5 * 120 * 24);
    CHECK(relative(together, alone) < 1e-6);
    CHECK(relative(encode(storage.at("imu"), data, &engine::Encoded::hidden), alone) < 1e-5);
    // The embedding is the mean of the states.
    const auto means = encode(encoder, data, &engine::Encoded::embedding);
    std::vector<float> wanted(means.size());
    for (std::size_t i = 0; i < alone.size(); ++i) {
        wanted[i / (120 * 24) * 24 + i % 24] += alone[i] / 120;
    }
    CHECK(relative(means, wanted) < 1e-5);
}

TEST_CASE("encoder: what is not whole inputs is refused, and nothing changes") {
    M4_NEEDS_DEVICE();
    const TempFolder folder;
    write_file(folder / "limu.safetensors", safetensors_bytes(random_limu()));
    Senses senses(folder / "limu.safetensors", {.max_items = 2});
    Encoder& encoder = senses.at("imu");
    std::vector<float> data(encoder.features().floats(3), 0.5F);
    const auto before = encode(encoder, std::span(data).first(720), &engine::Encoded::hidden);
    CHECK_THROWS_WITH_AS((void)encoder.run({}), "features of 0 floats are not 1 to 2 items of 720",
                         std::invalid_argument);
    CHECK_THROWS_AS((void)encoder.run(std::span(data).first(719)), std::invalid_argument);
    CHECK_THROWS_AS((void)encoder.run(data), std::invalid_argument);
    CHECK(encode(encoder, std::span(data).first(720), &engine::Encoded::hidden) == before);
}

TEST_CASE("encoder: a profiled run names its operators, and runs behind it are as before") {
    M4_NEEDS_DEVICE();
    const TempFolder folder;
    write_file(folder / "limu.safetensors", safetensors_bytes(random_limu()));
    Senses senses(folder / "limu.safetensors", {.max_items = 2});
    Encoder& encoder = senses.at("imu");
    std::vector<float> data(encoder.features().floats(2));
    std::mt19937 random(4);
    std::normal_distribution<float> normal;
    std::generate(data.begin(), data.end(), [&] { return normal(random); });
    const auto states = [](const engine::Encoded& encoded) {
        return std::vector<float>(encoded.hidden.begin(), encoded.hidden.end());
    };
    const auto plain = states(encoder.run(data));
    std::vector<float> other(data.size(), 0.25F);
    CHECK(states(encoder.run(other)) != plain);
    const engine::Profile profile = encoder.profile(data);
    for (const char* name : {"self_attention", "layer_norm", "activation", "mean_rows"}) {
        CAPTURE(name);
        const auto found = std::find_if(profile.kernels.begin(), profile.kernels.end(),
                                        [&](const auto& kernel) { return kernel.name == name; });
        REQUIRE(found != profile.kernels.end());
        CHECK(found->dispatches > 0);
        CHECK((!profile.timed || found->us > 0));
    }
    CHECK(states(encoder.run(data)) == plain);
    CHECK_THROWS_AS((void)encoder.profile(std::span(data).first(7)), std::invalid_argument);
}

TEST_CASE("encoder: LIMU-BERT's states are the reference's") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::filesystem::path folder = shared_data() + "/limu-bert";
    const ReferenceData golden(folder / "golden.safetensors");
    Senses senses(folder / "motion.safetensors");
    const auto hidden =
        encode(senses.at("imu"), golden.read<float>("in.x"), &engine::Encoded::hidden);
    CHECK(relative(hidden, golden.read<float>("out.hidden")) < 1e-4);
}

TEST_CASE("encoder: a vision transformer reads a thousand digits") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::filesystem::path folder = shared_data() + "/mnist-vit";
    const ReferenceData golden(folder / "golden.safetensors");
    Senses senses(folder / "mnist_vit.safetensors", {.max_items = 32});
    Encoder& encoder = senses.at("image");
    const auto scores =
        encode(encoder, golden.read<float>("in.normalized"), &engine::Encoded::scores);
    CHECK(relative(scores, golden.read<float>("out.logits")) < 1e-4);

    const ReferenceData digits(folder / "t10k-1000.safetensors");
    const auto pixels = digits.read<std::uint8_t>("pixels");
    const auto labels = digits.read<std::int64_t>("label");
    std::vector<float> data;
    for (const std::uint8_t pixel : pixels) {
        data.push_back((static_cast<float>(pixel) / 255 - 0.1307F) / 0.3081F);
    }
    const auto all = encode(encoder, data, &engine::Encoded::scores);
    REQUIRE(all.size() == labels.size() * 10);
    std::size_t right = 0;
    for (std::size_t i = 0; i < labels.size(); ++i) {
        const auto row = all.begin() + static_cast<std::ptrdiff_t>(i * 10);
        right += std::max_element(row, row + 10) - row == labels[i];
    }
    CHECK(right == 812);
}

TEST_CASE("encoder: Whisper's states are the reference's") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::filesystem::path folder = shared_data() + "/whisper-tiny";
    const ReferenceData golden(folder / "whisper-tiny.io.safetensors");
    Senses senses(folder / "whisper-tiny.safetensors", {.max_items = 1});
    Encoder& encoder = senses.at("speech");
    CHECK(encoder.features().rows == 80);
    CHECK(encoder.features().columns == 3000);
    CHECK(encoder.hidden().rows == 1500);
    const auto hidden = encode(encoder, golden.read<float>("in.mel"), &engine::Encoded::hidden);
    CHECK(relative(hidden, golden.read<float>("out.encoder")) < 1e-3);
}

TEST_CASE("encoder: ImageBind's four trunks give the reference's embeddings") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::filesystem::path folder = shared_data() + "/imagebind-tiny";
    const ReferenceData golden(folder / "imagebind-tiny.io.safetensors");
    Senses senses(folder / "imagebind-tiny.safetensors");
    CHECK(senses.count() == 4);
    const auto embed = [&](const char* part, const char* input) {
        return encode(senses.at(part), golden.read<float>(input), &engine::Encoded::embedding);
    };
    CHECK(relative(embed("image", "in.vision"), golden.read<float>("out.vision")) < 1e-3);
    CHECK(relative(embed("imu", "in.imu"), golden.read<float>("out.imu")) < 1e-3);
    // A text is what its last token, the largest id, says.
    Encoder& text = senses.at("text");
    REQUIRE(text.token_rows() == 77);
    CHECK(text.vocabulary() == 49408);
    std::vector<std::uint32_t> tokens;
    for (const std::int64_t id : golden.read<std::int64_t>("in.text")) {
        tokens.push_back(static_cast<std::uint32_t>(id));
    }
    std::vector<std::uint32_t> picked;
    for (std::size_t at = 0; at < tokens.size(); at += 77) {
        const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
        picked.push_back(static_cast<std::uint32_t>(std::max_element(first, first + 77) - first));
    }
    CHECK(relative(text.run_text(tokens, picked).embedding, golden.read<float>("out.text")) < 1e-3);
    CHECK_THROWS_AS((void)text.run(std::vector<float>(77)), std::invalid_argument);
    CHECK_THROWS_AS((void)text.run_text(tokens, std::span(picked).first(1)), std::invalid_argument);
    picked[0] = 77;
    CHECK_THROWS_WITH_AS((void)text.run_text(tokens, picked), "row 77 is none of an item's 77",
                         std::invalid_argument);
    picked[0] = 0;
    tokens[5] = 49408;
    CHECK_THROWS_WITH_AS((void)text.run_text(tokens, picked),
                         "token 49408 is not below the vocabulary, 49408", std::invalid_argument);
    // Three clips of one recording, averaged.
    const auto clips = embed("audio", "in.audio");
    std::vector<float> mean(clips.size() / 3);
    for (std::size_t i = 0; i < clips.size(); ++i) {
        mean[i % mean.size()] += clips[i] / 3;
    }
    CHECK(relative(mean, golden.read<float>("out.audio")) < 1e-3);
}

}  // namespace m4::test
