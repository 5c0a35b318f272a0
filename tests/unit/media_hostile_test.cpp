// SPDX-License-Identifier: MIT
// What an app may say of its bytes that is not so.
#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <random>

#include "importers/recipes.hpp"
#include "media_samples.hpp"
#include "media_target.hpp"

namespace m4::test {

namespace {

using media::Descriptor;
using media::Kind;

constexpr int kMutations = 30'000;

struct Lie {
    const char* expected;
    std::function<void(Descriptor&)> change;
};

void check_lies(const firmware::Recipe& recipe, const Descriptor& honest, const Bytes& file,
                const std::vector<Lie>& lies) {
    REQUIRE(refusal_of(recipe, honest, file) == "accepted");
    for (const Lie& lie : lies) {
        Descriptor media = honest;
        lie.change(media);
        CHECK(refusal_of(recipe, media, file) == lie.expected);
    }
}

}  // namespace

TEST_CASE("media: lies about images are refused by name") {
    const auto recipe = firmware::clip_image_recipe(8);
    const Bytes file(300);
    check_lies(
        recipe, image_of(Kind::rgb8, 10, 10), file,
        {{"kind 0 is unknown", [](auto& m) { m.kind = Kind{0}; }},
         {"kind 9 is unknown", [](auto& m) { m.kind = Kind{9}; }},
         {"kind pcm16 does not suit an encoder of images", [](auto& m) { m.kind = Kind::pcm16; }},
         {"width 0 is not 1 to 16384", [](auto& m) { m.width = 0; }},
         {"width 30000 is not 1 to 16384", [](auto& m) { m.width = 30'000; }},
         {"height 0 is not 1 to 16384", [](auto& m) { m.height = 0; }},
         {"height 4294967295 is not 1 to 16384", [](auto& m) { m.height = UINT32_MAX; }},
         {"width x height 268435456 is more than 67108864 pixels",
          [](auto& m) { m.width = m.height = 16'384; }},
         {"stride 29 is less than a row, 30 bytes", [](auto& m) { m.stride = 29; }},
         {"stride 0 is less than a row, 30 bytes", [](auto& m) { m.stride = 0; }},
         {"offset 0: 309 bytes from there are not within the file's 300",
          [](auto& m) { m.stride = 31; }},
         {"offset 0: 38654705685 bytes from there are not within the file's 300",
          [](auto& m) { m.stride = UINT32_MAX; }},
         {"offset 1: 300 bytes from there are not within the file's 300",
          [](auto& m) { m.offset = 1; }},
         {"offset 300: 300 bytes from there are not within the file's 300",
          [](auto& m) { m.offset = 300; }},
         {"offset 18446744073709551615: 300 bytes from there are not within the file's 300",
          [](auto& m) { m.offset = UINT64_MAX; }}});
}

TEST_CASE("media: lies about sound are refused by name") {
    const auto recipe = firmware::whisper_recipe(80, 100);
    const Bytes file(4000);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    check_lies(
        recipe, rows_of(Kind::pcm16, 2, 1000, 16'000), file,
        {{"kind rgb8 does not suit an encoder of sound", [](auto& m) { m.kind = Kind::rgb8; }},
         {"channels 0 is not 1 to 8", [](auto& m) { m.channels = 0; }},
         {"channels 9 is not 1 to 8", [](auto& m) { m.channels = 9; }},
         {"samples 0: the recording is empty", [](auto& m) { m.samples = 0; }},
         {"offset 0: 4004 bytes from there are not within the file's 4000",
          [](auto& m) { m.samples = 1001; }},
         {"offset 0: 18446744073709551615 bytes from there are not within the file's 4000",
          [](auto& m) { m.samples = UINT64_MAX; }},
         {"offset 1: 4000 bytes from there are not within the file's 4000",
          [](auto& m) { m.offset = 1; }},
         {"rate_hz 0 is not 1 to 768000", [](auto& m) { m.rate_hz = 0; }},
         {"rate_hz -16000 is not 1 to 768000", [](auto& m) { m.rate_hz = -16'000; }},
         {"rate_hz 768001 is not 1 to 768000", [](auto& m) { m.rate_hz = 768'001; }},
         {"rate_hz nan is not 1 to 768000", [=](auto& m) { m.rate_hz = nan; }}});
    CHECK(
        refusal_of(firmware::imagebind_audio_recipe(), rows_of(Kind::pcm16, 1, 1, 16'000), file) ==
        "samples 1 at 16000 Hz are less than a frame, which takes 400 at 16000 Hz");
    // They would be 320 million.
    CHECK(refusal_of(firmware::imagebind_audio_recipe(), rows_of(Kind::pcm16, 1, 20'000, 1),
                     Bytes(40'000)) ==
          "samples 20000: the recording is too long to be resampled for several clips");
    std::vector<float> wave(1000, 0.5F);
    const auto media = rows_of(Kind::pcm_f32, 2, 500, 16'000);
    wave[901] = nan;
    CHECK(refusal_of(recipe, media, bytes_of(wave)) == "sample 450 of channel 1 is not a number");
    wave[901] = -std::numeric_limits<float>::infinity();
    CHECK(refusal_of(recipe, media, bytes_of(wave)) == "sample 450 of channel 1 is infinite");
    wave[901] = std::numeric_limits<float>::max();
    CHECK(refusal_of(recipe, media, bytes_of(wave)) ==
          "samples are so large that their features are not finite");
}

TEST_CASE("media: lies about motion, and media for a text or nobody, are refused by name") {
    const firmware::MotionRecipe recipe = firmware::limu_bert_recipe(120, 6);
    const Bytes file(120 * 6 * 4);
    check_lies(recipe, rows_of(Kind::motion_f32, 6, 120), file,
               {{"channels 5 are not the recipe's 6", [](auto& m) { m.channels = 5; }},
                {"samples 0 at 20 Hz are less than a window, 120 at 20 Hz",
                 [](auto& m) { m.samples = 0; }},
                {"offset 0: 2904 bytes from there are not within the file's 2880",
                 [](auto& m) { m.samples = 121; }},
                {"offset 0: 18446744073709551615 bytes from there are not within the file's 2880",
                 [](auto& m) { m.samples = UINT64_MAX; }},
                {"rate_hz 0.5 is not 1 to 768000", [](auto& m) { m.rate_hz = 0.5F; }},
                {"samples 120 at 21 Hz are less than a window, 120 at 20 Hz",
                 [](auto& m) { m.rate_hz = 21; }},
                {"kind pcm_f32 does not suit an encoder of motion",
                 [](auto& m) { m.kind = Kind::pcm_f32; }}});
    const auto media = rows_of(Kind::motion_f32, 6, 120);
    CHECK(refusal_of(recipe, {120, 5}, media, file) ==
          "recipe makes features of 120 x 6, but the program takes 120 x 5");
    CHECK(refusal_of(std::monostate{}, {120, 6}, media, file) ==
          "kind motion_f32 does not suit an encoder without a recipe; features_f32 does");
    for (const Kind kind : {Kind::motion_f32, Kind::features_f32}) {
        auto any = media;
        any.kind = kind;
        CHECK(refusal_of(firmware::TextRecipe{}, {120, 6}, any, file)
                  .ends_with("does not suit an encoder of text"));
    }
}

TEST_CASE("media fuzz: seeds are accepted, mutations are refused or keep their promises") {
    const auto seeds = fuzz::media_seeds();
    for (const auto& seed : seeds) {
        CAPTURE(static_cast<int>(seed.recipe));
        CAPTURE(static_cast<int>(seed.media.kind));
        CHECK(fuzz::check_media(fuzz::pack_media(seed)));
    }
    std::minstd_rand random(1);
    int accepted = 0;
    for (int i = 0; i < kMutations; ++i) {
        auto one = fuzz::pack_media(seeds.at(random() % seeds.size()));
        for (auto n = random() % 3; n <= 3; ++n) {
            one[random() % one.size()] ^= static_cast<std::uint8_t>(1U << (random() % 8));
        }
        if (random() % 4 == 0) {
            one.resize(one.size() - random() % 8);
        }
        accepted += fuzz::check_media(one) ? 1 : 0;
    }
    CHECK(accepted > kMutations / 20);
    CHECK(accepted < kMutations * 19 / 20);
}

}  // namespace m4::test
