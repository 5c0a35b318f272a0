// SPDX-License-Identifier: MIT
#include "prepare.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "bounds.hpp"
#include "senses.hpp"

namespace m4::media {

namespace {

constexpr std::array<const char*, 9> kKindNames = {
    "", "gray8", "rgb8", "rgba8", "nv12", "pcm16", "pcm_f32", "motion_f32", "features_f32"};

std::string name_of(Kind kind) {
    const auto number = static_cast<std::size_t>(kind);
    if (number == 0 || number >= kKindNames.size()) {
        throw MediaError("kind " + std::to_string(number) + " is unknown");
    }
    return kKindNames.at(number);
}

void check_kind(Kind kind, Kind first, Kind last, const char* takes) {
    if (kind < first || kind > last) {
        throw MediaError("kind " + name_of(kind) + " does not suit an encoder of " + takes);
    }
}

Prepared take_features(firmware::FeatureShape shape, const Descriptor& media,
                       std::span<const std::byte> file) {
    if (media.channels != shape.columns || media.samples == 0 || shape.rows == 0 ||
        media.samples % shape.rows != 0) {
        throw MediaError("samples x channels " + shape_text(media.samples, media.channels) +
                         " are not features of " + shape_text(shape.rows, shape.columns) +
                         " or several such");
    }
    const std::uint64_t items = media.samples / shape.rows;
    check_features(items, shape);
    const std::uint64_t count = media.samples * media.channels;
    const auto bytes = bytes_at(file, "offset", media.offset, count * sizeof(float));
    Prepared made;
    made.items = static_cast<std::uint32_t>(items);
    made.features.resize(count);
    for (std::uint64_t i = 0; i < count; ++i) {
        made.features[i] = finite(float_at(bytes.data() + i * sizeof(float)), i / media.channels,
                                  i % media.channels);
    }
    return made;
}

struct Preparation {
    const Descriptor& media;
    std::span<const std::byte> file;

    Prepared operator()(const firmware::ImageRecipe& recipe) const {
        check_kind(media.kind, Kind::gray8, Kind::nv12, "images");
        return prepare_image(recipe, media, file);
    }
    Prepared operator()(const firmware::AudioRecipe& recipe) const {
        check_kind(media.kind, Kind::pcm16, Kind::pcm_f32, "sound");
        return prepare_sound(recipe, media, file);
    }
    Prepared operator()(const firmware::MotionRecipe& recipe) const {
        check_kind(media.kind, Kind::motion_f32, Kind::motion_f32, "motion");
        return prepare_motion(recipe, media, file);
    }
    Prepared operator()(const firmware::TextRecipe& /*recipe*/) const {
        throw MediaError("kind " + name_of(media.kind) + " does not suit an encoder of text");
    }
    Prepared operator()(std::monostate /*none*/) const {
        throw MediaError("kind " + name_of(media.kind) +
                         " does not suit an encoder without a recipe; features_f32 does");
    }
};

}  // namespace

Prepared prepare(const firmware::Recipe& recipe, firmware::FeatureShape shape,
                 const Descriptor& media, std::span<const std::byte> file) {
    (void)name_of(media.kind);
    const bool text = std::holds_alternative<firmware::TextRecipe>(recipe);
    if (media.kind == Kind::features_f32 && !text) {
        return take_features(shape, media, file);
    }
    const firmware::FeatureShape made = firmware::shape_of(recipe);
    if (!text && !std::holds_alternative<std::monostate>(recipe) && made != shape) {
        throw MediaError("recipe makes features of " + shape_text(made.rows, made.columns) +
                         ", but the program takes " + shape_text(shape.rows, shape.columns));
    }
    Prepared prepared = std::visit(Preparation{media, file}, recipe);
    // Samples near the largest float square to infinity.
    if (!std::all_of(prepared.features.begin(), prepared.features.end(),
                     [](float value) { return std::isfinite(value); })) {
        throw MediaError("samples are so large that their features are not finite");
    }
    return prepared;
}

}  // namespace m4::media
