// SPDX-License-Identifier: MIT
// Motion and ready-made features.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "media_samples.hpp"

namespace m4::test {

namespace {

using media::Kind;

/// Sample i of channel c is 10 i + c.
Bytes counted(std::uint64_t samples, std::uint32_t channels) {
    std::vector<float> rows;
    for (std::uint64_t i = 0; i < samples; ++i) {
        for (std::uint32_t c = 0; c < channels; ++c) {
            rows.push_back(static_cast<float>(10 * i + c));
        }
    }
    return bytes_of(rows);
}

}  // namespace

TEST_CASE("media: motion is cut into whole windows, turned and scaled") {
    const auto media = rows_of(Kind::motion_f32, 2, 8);
    const Bytes file = counted(8, 2);
    firmware::MotionRecipe recipe{.channels = 2, .samples = 3, .rate_hz = 20};
    auto made = prepared(recipe, media, file);
    CHECK(made.items == 2);
    CHECK(made.features == std::vector<float>{0, 1, 10, 11, 20, 21, 30, 31, 40, 41, 50, 51});
    recipe.channels_first = true;
    recipe.scale = {2, -1};
    made = prepared(recipe, media, file);
    CHECK(made.features == std::vector<float>{0, 20, 40, -1, -11, -21, 60, 80, 100, -31, -41, -51});
    recipe.samples = 9;
    CHECK(refusal_of(recipe, media, file) ==
          "samples 8 at 20 Hz are less than a window, 9 at 20 Hz");
    recipe.samples = 1;
    CHECK(prepared(recipe, rows_of(Kind::motion_f32, 2, 100), counted(100, 2)).items == 64);
}

TEST_CASE("media: motion at another rate is resampled, gravity and slopes whole") {
    const firmware::MotionRecipe recipe{.channels = 3, .samples = 100, .rate_hz = 20};
    for (const double rate : {50.0, 100.0, 12.5}) {
        CAPTURE(rate);
        std::vector<float> rows;
        const auto samples = static_cast<std::uint64_t>(rate * 5) + 1;
        for (std::uint64_t i = 0; i < samples; ++i) {
            const double t = static_cast<double>(i) / rate;
            rows.push_back(9.81F);
            rows.push_back(static_cast<float>(3 - 2 * t));
            rows.push_back(static_cast<float>(std::sin(2 * std::numbers::pi * t)));
        }
        const auto made =
            prepared(recipe, rows_of(Kind::motion_f32, 3, samples, static_cast<float>(rate)),
                     bytes_of(rows));
        REQUIRE(made.items == 1);
        for (std::size_t i = 0; i < 100; ++i) {
            const double t = static_cast<double>(i) / 20;
            CHECK(made.features[3 * i] == doctest::Approx(9.81));
            CHECK(made.features[3 * i + 1] == doctest::Approx(3 - 2 * t).epsilon(1e-5));
            if (i >= 20 && i < 80) {
                CHECK(std::abs(made.features[3 * i + 2] - std::sin(2 * std::numbers::pi * t)) <
                      5e-3);
            }
        }
    }
}

TEST_CASE("media: features are taken as they are, several at once, none that is not finite") {
    auto media = rows_of(Kind::features_f32, 2, 6);
    auto file = counted(6, 2);
    const auto made = media::prepare(std::monostate{}, {3, 2}, media, file);
    CHECK(made.items == 2);
    CHECK(bytes_of(made.features) == file);
    // An encoder with a recipe takes them as well.
    const firmware::MotionRecipe recipe{.channels = 2, .samples = 6, .rate_hz = 20};
    CHECK(prepared(recipe, media, file).items == 1);
    media.samples = 5;
    CHECK(refusal_of(std::monostate{}, {3, 2}, media, file) ==
          "samples x channels 5 x 2 are not features of 3 x 2 or several such");
    media.samples = 6;
    file.pop_back();
    CHECK(refusal_of(std::monostate{}, {3, 2}, media, file) ==
          "offset 0: 48 bytes from there are not within the file's 47");
    std::vector<float> bad(12, 0);
    bad[7] = std::numeric_limits<float>::infinity();
    CHECK(refusal_of(std::monostate{}, {3, 2}, media, bytes_of(bad)) ==
          "sample 3 of channel 1 is infinite");
    media.samples = 1ULL << 60U;
    media.channels = 1U << 31U;
    CHECK(refusal_of(std::monostate{}, {1, 1U << 31U}, media, file) ==
          "features: 1152921504606846976 times 1 x 2147483648 are more than 67108864");
}

}  // namespace m4::test
