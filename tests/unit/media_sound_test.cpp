// SPDX-License-Identifier: MIT
// Sound to features; torchaudio's own numbers are compared in media_reference_test.sh.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "importers/recipes.hpp"
#include "media/resample.hpp"
#include "media/sound.hpp"
#include "media_samples.hpp"

namespace m4::test {

namespace {

using media::Kind;

std::vector<float> tone(double hz, double rate, std::size_t samples) {
    std::vector<float> wave(samples);
    for (std::size_t i = 0; i < samples; ++i) {
        wave[i] = static_cast<float>(
            0.5 * std::sin(2 * std::numbers::pi * hz * static_cast<double>(i) / rate + 1));
    }
    return wave;
}

media::Prepared of_floats(const firmware::AudioRecipe& recipe, const std::vector<float>& wave,
                          float rate = 16'000) {
    return prepared(recipe, rows_of(Kind::pcm_f32, 1, wave.size(), rate), bytes_of(wave));
}

firmware::AudioRecipe clips_of(std::uint32_t clips, std::uint32_t samples) {
    firmware::AudioRecipe recipe = firmware::imagebind_audio_recipe();
    recipe.clips = clips;
    recipe.clip_samples = samples;
    return recipe;
}

std::vector<float> ramp(std::size_t samples) {
    std::vector<float> wave(samples);
    for (std::size_t i = 0; i < samples; ++i) {
        wave[i] = static_cast<float>(i);
    }
    return wave;
}

std::vector<std::vector<float>> cut(const firmware::AudioRecipe& recipe,
                                    const std::vector<float>& wave) {
    const Bytes file = bytes_of(wave);
    return media::cut_clips(recipe,
                            media::Sound(rows_of(Kind::pcm_f32, 1, wave.size(), 16'000), file));
}

}  // namespace

TEST_CASE("media: silence is the floor, and zero frames behind a short recording") {
    const auto recipe = firmware::imagebind_audio_recipe();
    const float floor =
        (std::log(std::numeric_limits<float>::epsilon()) - recipe.mean) / recipe.std;
    const float zero = -recipe.mean / recipe.std;
    for (const auto& [samples, frames] : {std::pair{32'000U, 198U}, {16'000U, 98U}, {400U, 1U}}) {
        const auto made = of_floats(recipe, std::vector<float>(samples, 0.25F));
        REQUIRE(made.items == 3);
        REQUIRE(made.features.size() == 3 * 128 * 204);
        for (std::size_t i = 0; i < made.features.size(); ++i) {
            REQUIRE(made.features[i] == doctest::Approx(i % 204 < frames ? floor : zero));
        }
    }
    // Whisper's recordings are filled up themselves.
    for (const float feature :
         of_floats(firmware::whisper_recipe(80, 3000), std::vector<float>(5)).features) {
        REQUIRE(feature == doctest::Approx(-1.5));
    }
}

TEST_CASE("media: a tone is in the bins around it") {
    const auto recipe = firmware::imagebind_audio_recipe();
    const auto mel = [](double hz) { return 1127 * std::log(1 + hz / 700); };
    for (const double hz : {500.0, 1500.0, 6000.0}) {
        const auto made = of_floats(recipe, tone(hz, 16'000, 32'000));
        const double step = (mel(8000) - mel(20)) / 129;
        const double bin = (mel(hz) - mel(20)) / step - 1;
        for (std::size_t frame = 0; frame < 198; frame += 50) {
            std::size_t loudest = 0;
            for (std::size_t i = 0; i < 128; ++i) {
                const auto at = [&](std::size_t j) { return made.features[j * 204 + frame]; };
                loudest = at(i) > at(loudest) ? i : loudest;
            }
            CHECK(std::abs(static_cast<double>(loudest) - bin) <= 2);
        }
    }
    // Decades below the loudest: 8, of 4 each in the result.
    const auto made = of_floats(firmware::whisper_recipe(80, 100), tone(1000, 16'000, 16'000));
    const auto [least, most] = std::minmax_element(made.features.begin(), made.features.end());
    CHECK(*least == doctest::Approx(*most - 2));
}

TEST_CASE("media: 16 bits, channels and places in the file") {
    const auto recipe = clips_of(1, 4000);
    std::vector<std::int16_t> left(4000);
    std::vector<float> mono(left.size());
    std::vector<std::int16_t> both;
    for (std::size_t i = 0; i < left.size(); ++i) {
        left[i] = static_cast<std::int16_t>(static_cast<int>(i * 7919 % 4001) - 2000);
        both.push_back(left[i]);
        both.push_back(static_cast<std::int16_t>(left[i] / 2));
        mono[i] = (static_cast<float>(left[i]) + static_cast<float>(left[i] / 2)) / 65'536;
    }
    Bytes file(3);  // at an odd place
    const Bytes samples = bytes_of(both);
    file.insert(file.end(), samples.begin(), samples.end());
    auto media = rows_of(Kind::pcm16, 2, left.size(), 16'000);
    media.offset = 3;
    CHECK(prepared(recipe, media, file).features == of_floats(recipe, mono).features);
}

TEST_CASE("media: clips begin at even distances; what is beyond one is cut off") {
    const auto clips = cut(clips_of(3, 1000), ramp(2501));
    REQUIRE(clips.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
        REQUIRE(clips[i].size() == 1000);
        CHECK(clips[i].front() == static_cast<float>(i * 1501 / 2));
        CHECK(clips[i].back() == clips[i].front() + 999);
    }
    auto recipe = clips_of(1, 1000);
    CHECK(cut(recipe, ramp(5000)).at(0).back() == 999);
    CHECK(cut(recipe, ramp(700)).at(0).size() == 700);
    recipe.padded = true;
    const auto filled = cut(recipe, ramp(700)).at(0);
    REQUIRE(filled.size() == 1000);
    CHECK(filled[699] == 699);
    CHECK(filled[700] == 0);
    recipe.clips = 2;
    CHECK(cut(recipe, ramp(700)) == std::vector{filled, filled});
}

TEST_CASE("media: the first coefficient alone is in what is even") {
    auto recipe = clips_of(1, 1600);
    recipe.padded = true;
    recipe.frames = 8;
    recipe.mean = 0;
    recipe.std = 1;
    recipe.coefficients = 5;
    recipe.frames_first = true;
    const auto made = of_floats(recipe, std::vector<float>(100));
    REQUIRE(made.features.size() == 40);
    for (std::size_t i = 0; i < made.features.size(); ++i) {
        CHECK(made.features[i] ==
              doctest::Approx(
                  i % 5 != 0 ? 0 : std::sqrt(128) * std::log(std::numeric_limits<float>::epsilon()))
                  .epsilon(1e-5));
    }
}

TEST_CASE("media: resampling keeps tones where they are") {
    for (const auto& [from, to] : {std::pair{44'100.0, 16'000.0},
                                   {8'000.0, 16'000.0},
                                   {22'050.5, 16'000.0},
                                   {768'000.0, 16'000.0}}) {
        CAPTURE(from);
        const auto wave = tone(440, from, static_cast<std::size_t>(from / 2));
        const auto wanted = tone(440, to, static_cast<std::size_t>(to / 2));
        std::vector<float> made;
        media::resample(
            {from, to}, 1, wave.size(), media::resampled(wave.size(), {from, to}),
            [&](std::uint64_t first, std::span<float> out) {
                REQUIRE(first + out.size() <= wave.size());
                std::copy_n(wave.begin() + static_cast<std::ptrdiff_t>(first), out.size(),
                            out.begin());
            },
            [&](std::uint64_t first, std::span<const float> rows) {
                REQUIRE(first == made.size());
                made.insert(made.end(), rows.begin(), rows.end());
            });
        REQUIRE(made.size() == wanted.size());
        for (std::size_t i = 200; i + 200 < made.size(); ++i) {
            REQUIRE(std::abs(made[i] - wanted[i]) < 1e-4);
        }
    }
}

TEST_CASE("media: resampling reads what the result takes, not a whole recording") {
    std::uint64_t read = 0;
    std::uint64_t made = 0;
    media::resample(
        {48'000, 16'000}, 2, 100'000'000, 1000,
        [&](std::uint64_t first, std::span<float> out) {
            std::fill(out.begin(), out.end(), 1.0F);
            read = first + out.size() / 2;
        },
        [&](std::uint64_t first, std::span<const float> rows) { made = first + rows.size() / 2; });
    CHECK(made == 1000);
    CHECK(read < 50'000);
}

TEST_CASE("media: extreme rates work or are refused") {
    const auto recipe = clips_of(1, 4000);
    for (const float rate : {1.0F, 767'999.0F, 48'000.5F}) {
        CAPTURE(rate);
        const auto made = of_floats(recipe, tone(0.1, rate, 50'000), rate);
        CHECK(made.features.size() == 128 * 204);
    }
    CHECK(media::resampled(UINT64_MAX, {1, 768'000}) == 1ULL << 62U);
}

}  // namespace m4::test
