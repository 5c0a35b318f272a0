// SPDX-License-Identifier: MIT
// Pixels to features. Numbers here are worked out by hand; Pillow's own are compared in
// media_reference_test.sh.
#include <doctest/doctest.h>

#include <cmath>

#include "importers/recipes.hpp"
#include "media_samples.hpp"

namespace m4::test {

namespace {

using media::Kind;

/// Of the only channel, as bytes.
std::vector<int> gray(const firmware::ImageRecipe& recipe, const media::Descriptor& media,
                      const Bytes& file) {
    std::vector<int> values;
    for (const float feature : prepared(recipe, media, file).features) {
        values.push_back(static_cast<int>(std::lround(feature * 255)));
    }
    return values;
}

Bytes bytes(const std::vector<std::uint8_t>& values) {
    return bytes_of(values);
}

}  // namespace

TEST_CASE("media: an image of one colour stays so at any size") {
    const firmware::ImageRecipe recipe = firmware::clip_image_recipe(8);
    for (const auto& [width, height] : {std::pair{8U, 8U}, {1U, 1U}, {50U, 9U}, {9U, 333U}}) {
        CAPTURE(width);
        Bytes file;
        for (std::uint32_t i = 0; i < width * height; ++i) {
            for (const int value : {10, 200, 255}) {
                file.push_back(static_cast<std::byte>(value));
            }
        }
        const auto made = prepared(recipe, image_of(Kind::rgb8, width, height), file);
        REQUIRE(made.items == 1);
        REQUIRE(made.features.size() == 3 * 8 * 8);
        for (std::size_t i = 0; i < made.features.size(); ++i) {
            const std::size_t channel = i / 64;
            const float value = channel == 0 ? 10 : channel == 1 ? 200 : 255;
            CHECK(made.features[i] == (value / 255 - recipe.mean[channel]) / recipe.std[channel]);
        }
    }
}

TEST_CASE("media: half the size is the cubic kernel twice as wide") {
    // Over 4 columns the left one of 2 weighs 111, 111, 29, -9 of 242, whatever the rows.
    const firmware::ImageRecipe recipe = plain_image(1, 2, 2, 2);
    const auto column = [&](std::uint32_t lit) {
        std::vector<std::uint8_t> file(16);
        for (std::uint32_t row = 0; row < 4; ++row) {
            file[row * 4 + lit] = 255;
        }
        return gray(recipe, image_of(Kind::gray8, 4, 4), bytes(file));
    };
    const int most = 117;  // 255 x 111 / 242
    const int some = 31;   // 255 x 29 / 242
    CHECK(column(0) == std::vector{most, 0, most, 0});
    CHECK(column(1) == std::vector{most, some, most, some});
    CHECK(column(2) == std::vector{some, most, some, most});
    CHECK(column(3) == std::vector{0, most, 0, most});
}

TEST_CASE("media: bilinear is a triangle, stretched changes the proportions") {
    // Over 4 columns the left one of 2 weighs 3, 3, 1, 0 of 7.
    firmware::ImageRecipe recipe = plain_image(1, 2, 2, 2);
    recipe.filter = firmware::ResizeFilter::bilinear;
    recipe.stretched = true;
    const auto column = [&](std::uint32_t lit, std::uint32_t height) {
        std::vector<std::uint8_t> file(4 * height);
        for (std::uint32_t row = 0; row < height; ++row) {
            file[row * 4 + lit] = 255;
        }
        return gray(recipe, image_of(Kind::gray8, 4, height), bytes(file));
    };
    const int most = 109;  // 255 x 3 / 7
    const int some = 36;   // 255 x 1 / 7
    for (const std::uint32_t height : {1U, 2U, 4U, 9U}) {
        CAPTURE(height);
        CHECK(column(0, height) == std::vector{most, 0, most, 0});
        CHECK(column(1, height) == std::vector{most, some, most, some});
        CHECK(column(3, height) == std::vector{0, most, 0, most});
    }
    recipe.stretched = false;  // the two in the middle of four columns
    CHECK(column(0, 2) == std::vector{0, 0, 0, 0});
    CHECK(column(1, 2) == std::vector{255, 0, 255, 0});
}

TEST_CASE("media: the centre is cut out, halves to the even pixel") {
    std::vector<std::uint8_t> file(7 * 7);
    for (std::size_t i = 0; i < file.size(); ++i) {
        file[i] = static_cast<std::uint8_t>(i);
    }
    const auto first = [&](std::uint32_t side, std::uint32_t cut) {
        return gray(plain_image(1, side, cut, cut), image_of(Kind::gray8, side, side), bytes(file))
            .at(0);
    };
    CHECK(first(7, 7) == 0);
    CHECK(first(7, 6) == 0);          // 0.5
    CHECK(first(7, 5) == 7 + 1);      // 1
    CHECK(first(7, 4) == 2 * 7 + 2);  // 1.5
    CHECK(first(7, 2) == 2 * 7 + 2);  // 2.5
    CHECK(first(5, 1) == 2 * 5 + 2);
    // The long side is cut alike: of 9 columns those from 2 on.
    std::vector<std::uint8_t> wide(5 * 9);
    for (std::size_t i = 0; i < wide.size(); ++i) {
        wide[i] = static_cast<std::uint8_t>(i % 9);
    }
    CHECK(gray(plain_image(1, 5, 5, 5), image_of(Kind::gray8, 9, 5), bytes(wide)).at(0) == 2);
}

TEST_CASE("media: colours to luma and back, alpha dropped") {
    const std::vector<std::uint8_t> rgba = {255, 0, 0,   7,  0,   255, 0,   0,
                                            0,   0, 255, 99, 255, 255, 255, 128};
    CHECK(gray(plain_image(1, 0, 1, 4), image_of(Kind::rgba8, 4, 1), bytes(rgba)) ==
          std::vector{76, 150, 29, 255});
    const auto colours = gray(plain_image(3, 0, 1, 4), image_of(Kind::rgba8, 4, 1), bytes(rgba));
    CHECK(colours == std::vector{255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 255});
    CHECK(gray(plain_image(3, 0, 1, 2), image_of(Kind::gray8, 2, 1), bytes({9, 8})) ==
          std::vector{9, 8, 9, 8, 9, 8});
}

TEST_CASE("media: NV12 is BT.601 of limited range, a pair for its 2 x 2 pixels") {
    media::Descriptor media = image_of(Kind::nv12, 3, 3);
    media.stride = 5;
    media.chroma_offset = 15;
    // Rows of 3 and 2 bytes of padding; the second plane's rows are of two pairs, the last
    // one without padding.
    const auto file = bytes({16,  235, 81, 1,   1,   16, 235, 81, 1,   1,   0,  255,
                             145, 1,   1,  128, 128, 90, 240, 1,  128, 128, 54, 34});
    const auto values = gray(plain_image(3, 0, 3, 3), media, file);
    const std::vector<int> red = {0, 255, 254, 0, 255, 254, 0, 255, 0};
    const std::vector<int> green = {0, 255, 0, 0, 255, 0, 0, 255, 255};
    const std::vector<int> blue = {0, 255, 0, 0, 255, 0, 0, 255, 1};
    REQUIRE(values.size() == 27);
    for (std::size_t i = 0; i < 9; ++i) {
        CAPTURE(i);
        CHECK(std::abs(values[i] - red[i]) <= 1);
        CHECK(std::abs(values[9 + i] - green[i]) <= 1);
        CHECK(std::abs(values[18 + i] - blue[i]) <= 1);
    }
    media.stride = 3;  // a row of chroma is 4
    CHECK(refusal_of(plain_image(3, 0, 3, 3), media, file) ==
          "stride 3 is less than a row, 4 bytes");
    media.stride = 5;
    media.chroma_offset = 16;
    CHECK(refusal_of(plain_image(3, 0, 3, 3), media, file) ==
          "chroma_offset 16: 9 bytes from there are not within the file's 24");
}

TEST_CASE("media: rows lie as stride and offset say, the last one needs no padding") {
    media::Descriptor media = image_of(Kind::gray8, 2, 2);
    media.offset = 3;
    media.stride = 4;
    const auto recipe = plain_image(1, 0, 2, 2);
    CHECK(gray(recipe, media, bytes({9, 9, 9, 1, 2, 9, 9, 3, 4})) == std::vector{1, 2, 3, 4});
    CHECK(refusal_of(recipe, media, bytes({9, 9, 9, 1, 2, 9, 9, 3})) ==
          "offset 3: 6 bytes from there are not within the file's 8");
    CHECK(refusal_of(plain_image(1, 0, 2, 3), media, bytes({9, 9, 9, 1, 2, 9, 9, 3, 4})) ==
          "width x height 2 x 2 is not what the recipe wants, 3 x 2");
}

}  // namespace m4::test
