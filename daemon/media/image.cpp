// SPDX-License-Identifier: MIT
#include <array>
#include <string>

#include "bounds.hpp"
#include "pixels.hpp"
#include "resize.hpp"
#include "senses.hpp"

namespace m4::media {

namespace {

/// Half of what is left over; halves go to the even pixel, as Python rounds.
std::uint64_t centered(std::uint64_t whole, std::uint64_t part) {
    const std::uint64_t rest = whole - part;
    return rest / 2 + (rest % 4 == 3 ? 1 : 0);
}

/// The short side becomes short_side, the long one the same, or what is in proportion,
/// rounded down.
Cut cut_of(const firmware::ImageRecipe& recipe, std::uint32_t height, std::uint32_t width) {
    Cut cut;
    cut.height = recipe.height;
    cut.width = recipe.width;
    cut.resized_height = height;
    cut.resized_width = width;
    if (recipe.short_side == 0) {
        if (height != recipe.height || width != recipe.width) {
            throw MediaError("width x height " + std::to_string(width) + " x " +
                             std::to_string(height) + " is not what the recipe wants, " +
                             std::to_string(recipe.width) + " x " + std::to_string(recipe.height));
        }
        return cut;
    }
    const std::uint64_t side = recipe.short_side;
    const bool stretched = recipe.stretched;
    cut.resized_height = height <= width || stretched ? side : side * height / width;
    cut.resized_width = width <= height || stretched ? side : side * width / height;
    cut.top = centered(cut.resized_height, cut.height);
    cut.left = centered(cut.resized_width, cut.width);
    return cut;
}

}  // namespace

Prepared prepare_image(const firmware::ImageRecipe& recipe, const Descriptor& media,
                       std::span<const std::byte> file) {
    check_features(1, {recipe.channels * recipe.height, recipe.width});
    const Pixels pixels(media, file, recipe.channels);
    const Cut cut = cut_of(recipe, pixels.height(), pixels.width());
    const auto bytes = resize(pixels, cut, recipe.channels, recipe.filter);
    const std::size_t plane = std::size_t{cut.height} * cut.width;
    Prepared made;
    made.items = 1;
    made.features.resize(plane * recipe.channels);
    for (std::uint32_t channel = 0; channel < recipe.channels; ++channel) {
        std::array<float, 256> values{};
        for (std::size_t i = 0; i < values.size(); ++i) {
            values.at(i) =
                (static_cast<float>(i) / 255 - recipe.mean[channel]) / recipe.std[channel];
        }
        float* out = made.features.data() + channel * plane;
        for (std::size_t i = 0; i < plane; ++i) {
            out[i] = values.at(bytes[i * recipe.channels + channel]);
        }
    }
    return made;
}

}  // namespace m4::media
