// SPDX-License-Identifier: MIT
// Files of the reference data, decoded and prepared as apps' are, through encoders.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gpu.hpp"
#include "media/media.hpp"
#include "media/prepare.hpp"
#include "senses.hpp"

namespace m4::test {

namespace {

/// What m4d makes of what m4ctl decoded.
std::vector<float> features(const Senses& senses, const client_media::Media& from) {
    const media::Descriptor media{static_cast<media::Kind>(from.kind),
                                  from.offset,
                                  from.width,
                                  from.height,
                                  from.stride,
                                  from.chroma_offset,
                                  from.channels,
                                  from.samples,
                                  from.rate_hz};
    const firmware::Recipe& recipe = senses.image().package().parts.at(0).recipe;
    return media::prepare(recipe, firmware::shape_of(recipe), media, from.bytes).features;
}

double farthest(std::span<const float> got, const std::vector<float>& wanted) {
    REQUIRE(got.size() == wanted.size());
    double largest = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        largest = std::max(largest, std::abs(double{got[i]} - double{wanted[i]}));
    }
    return largest;
}

}  // namespace

TEST_CASE("prepared: all 39 clips of KWT from their files, with the reference's logits") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::filesystem::path folder = std::filesystem::path(shared_data()) / "kwt1";
    std::ifstream in(folder / "golden.json");
    const auto golden = nlohmann::json::parse(in);
    Senses senses(folder / "kwt1.tflite");
    const auto& labels = senses.image().package().parts.at(0).labels;
    std::size_t right = 0;
    std::size_t resampled_right = 0;
    double largest = 0;
    for (const auto& [name, clip] : golden.at("clips").items()) {
        CAPTURE(name);
        auto sound = client_media::load_audio((folder / "wav" / (name + ".wav")).string());
        const auto score = [&] {
            return encode(senses.at("audio"), features(senses, sound), &engine::Encoded::scores);
        };
        const auto is_right = [&](const std::vector<float>& scores) {
            const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
            return labels.at(static_cast<std::size_t>(best)) == clip.at("label");
        };
        CHECK(sound.rate_hz == clip.at("sample_rate_hz").get<float>());
        if (sound.rate_hz != 16'000) {
            resampled_right += is_right(score());
            sound.rate_hz = 16'000;  // as the reference was fed them
        }
        const auto scores = score();
        right += is_right(scores);
        largest = std::max(largest, farthest(scores, clip.at("logits").get<std::vector<float>>()));
    }
    CHECK(golden.at("clips").size() == 39);
    CHECK(right == 39);
    CHECK(resampled_right == 2);
    MESSAGE("largest difference of a logit: ", largest);
    CHECK(largest < 1e-2);
}

TEST_CASE("prepared: digits and motion from tensors in files") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::string digits = shared_data() + "/mnist-vit/golden.safetensors";
    const ReferenceData golden(digits);
    const auto wanted = golden.read<float>("in.normalized");
    Senses vit(shared_data() + "/mnist-vit/mnist_vit.safetensors", {.max_items = 32});
    std::vector<float> all;
    for (std::size_t i = 0; i < 32; ++i) {
        const auto one = features(
            vit, client_media::load_tensor(digits + "#in.pixels[" + std::to_string(i) + "]"));
        all.insert(all.end(), one.begin(), one.end());
    }
    CHECK(farthest(all, wanted) < 1e-6);
    CHECK(relative(encode(vit.at("image"), all, &engine::Encoded::scores),
                   golden.read<float>("out.logits")) < 1e-4);

    const std::string windows = shared_data() + "/limu-bert/golden.safetensors";
    Senses limu(shared_data() + "/limu-bert/motion.safetensors");
    const auto motion =
        features(limu, client_media::load_tensor(windows + "#in.x", client_media::Floats::motion));
    CHECK(relative(encode(limu.at("imu"), motion, &engine::Encoded::hidden),
                   ReferenceData(windows).read<float>("out.hidden")) < 1e-4);
}

}  // namespace m4::test
