// SPDX-License-Identifier: MIT
#include "media_target.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace m4::fuzz {

namespace {

using media::Kind;

void require(bool holds, const char* promise) {
    if (!holds) {
        (void)std::fprintf(stderr, "promise broken: %s\n", promise);
        std::abort();
    }
}

/// Fields one behind the other, little-endian; reads zeros past the end.
class Reader {
   public:
    explicit Reader(std::span<const std::uint8_t> bytes) : rest_(bytes) {}

    template <typename T>
    void take(T& field) {
        const std::size_t count = std::min(sizeof(T), rest_.size());
        field = T{};
        if (count != 0) {
            std::memcpy(&field, rest_.data(), count);
        }
        rest_ = rest_.subspan(count);
    }
    [[nodiscard]] std::span<const std::uint8_t> rest() const { return rest_; }

   private:
    std::span<const std::uint8_t> rest_;
};

class Writer {
   public:
    template <typename T>
    void take(const T& field) {
        const auto* from = reinterpret_cast<const std::uint8_t*>(&field);
        bytes.insert(bytes.end(), from, from + sizeof(T));
    }
    std::vector<std::uint8_t> bytes;
};

void each_field(auto& stream, auto& one) {
    stream.take(one.recipe);
    stream.take(one.media.kind);
    stream.take(one.media.offset);
    stream.take(one.media.width);
    stream.take(one.media.height);
    stream.take(one.media.stride);
    stream.take(one.media.chroma_offset);
    stream.take(one.media.channels);
    stream.take(one.media.samples);
    stream.take(one.media.rate_hz);
}

firmware::AudioRecipe sound_recipe() {
    firmware::AudioRecipe recipe;
    recipe.sample_rate = 64;
    recipe.clips = 3;
    recipe.clip_samples = 40;
    recipe.padded = false;
    recipe.subtract_mean = true;
    recipe.frame_samples = 10;
    recipe.frame_shift = 4;
    recipe.fft_samples = 16;
    recipe.subtract_frame_mean = true;
    recipe.pre_emphasis = 0.97F;
    recipe.mel_bins = 4;
    recipe.low_hz = 1;
    recipe.high_hz = 32;
    recipe.log_floor = 1e-7F;
    recipe.frames = 9;
    return recipe;
}

firmware::AudioRecipe centred_recipe() {
    firmware::AudioRecipe recipe = sound_recipe();
    recipe.clips = 1;
    recipe.padded = true;
    recipe.frame_samples = 12;
    recipe.fft_samples = 12;
    recipe.centred = true;
    recipe.window = firmware::WindowKind::hann_periodic;
    recipe.mel_scale = firmware::MelScale::slaney;
    recipe.log = firmware::LogKind::decibel_range;
    recipe.power = 1;
    recipe.coefficients = 3;
    recipe.frames_first = true;
    return recipe;
}

}  // namespace

const std::vector<firmware::Recipe>& media_recipes() {
    static const std::vector<firmware::Recipe> all = {
        firmware::ImageRecipe{.channels = 3,
                              .short_side = 9,
                              .height = 6,
                              .width = 7,
                              .mean = {0.5F, 0.4F, 0.3F},
                              .std = {0.2F, 0.3F, 0.4F},
                              .filter = firmware::ResizeFilter::bilinear},
        firmware::ImageRecipe{
            .channels = 1, .short_side = 0, .height = 5, .width = 6, .mean = {0}, .std = {1}},
        sound_recipe(),
        centred_recipe(),
        firmware::MotionRecipe{.channels = 3, .samples = 8, .rate_hz = 20},
        firmware::MotionRecipe{
            .channels = 2, .samples = 4, .rate_hz = 50, .channels_first = true, .scale = {2, -1}},
        firmware::TextRecipe{},
        std::monostate{},
    };
    return all;
}

std::vector<std::uint8_t> pack_media(const MediaCase& one) {
    Writer writer;
    each_field(writer, one);
    writer.bytes.insert(writer.bytes.end(), one.file.begin(), one.file.end());
    return writer.bytes;
}

MediaCase unpack_media(std::span<const std::uint8_t> bytes) {
    MediaCase one;
    Reader reader(bytes);
    each_field(reader, one);
    one.file.assign(reader.rest().begin(), reader.rest().end());
    return one;
}

std::vector<MediaCase> media_seeds() {
    std::vector<MediaCase> seeds;
    const auto add = [&](std::uint8_t recipe, const media::Descriptor& media, std::size_t size) {
        std::vector<std::uint8_t> file(size);
        for (std::size_t i = 0; i < size; ++i) {
            // Also of floats: the upper byte of each gives a small one.
            file[i] = static_cast<std::uint8_t>(i % 4 == 3 ? 0x3e : i * 37);
        }
        seeds.push_back({recipe, media, std::move(file)});
    };
    const auto image = [](Kind kind, std::uint32_t width, std::uint32_t height,
                          std::uint32_t stride) {
        media::Descriptor media;
        media.kind = kind;
        media.width = width;
        media.height = height;
        media.stride = stride;
        media.chroma_offset = std::uint64_t{height} * stride;
        return media;
    };
    const auto rows = [](Kind kind, std::uint32_t channels, std::uint64_t samples, float rate) {
        media::Descriptor media;
        media.kind = kind;
        media.channels = channels;
        media.samples = samples;
        media.rate_hz = rate;
        return media;
    };
    add(0, image(Kind::gray8, 20, 12, 20), 240);
    add(0, image(Kind::rgb8, 7, 11, 24), 264);
    add(0, image(Kind::rgba8, 9, 9, 36), 324);
    add(0, image(Kind::nv12, 13, 11, 16), 272);
    add(1, image(Kind::rgb8, 6, 5, 18), 90);
    add(2, rows(Kind::pcm16, 2, 100, 64), 400);
    add(2, rows(Kind::pcm_f32, 1, 30, 100), 120);
    add(3, rows(Kind::pcm16, 1, 60, 48), 120);
    add(3, rows(Kind::pcm_f32, 1, 5, 64), 20);
    add(4, rows(Kind::motion_f32, 3, 17, 0), 204);
    add(5, rows(Kind::motion_f32, 2, 21, 100), 168);
    add(7, rows(Kind::features_f32, 3, 4, 0), 48);
    return seeds;
}

bool check_media(std::span<const std::uint8_t> bytes) {
    const MediaCase one = unpack_media(bytes);
    const firmware::Recipe& recipe = media_recipes().at(one.recipe % media_recipes().size());
    const firmware::FeatureShape shape = std::holds_alternative<std::monostate>(recipe)
                                             ? firmware::FeatureShape{2, 3}
                                             : firmware::shape_of(recipe);
    try {
        const media::Prepared made =
            media::prepare(recipe, shape, one.media, std::as_bytes(std::span(one.file)));
        require(made.items >= 1, "something comes of what is accepted");
        require(made.features.size() == std::size_t{made.items} * shape.rows * shape.columns,
                "features are whole items");
        require(std::all_of(made.features.begin(), made.features.end(),
                            [](float value) { return std::isfinite(value); }),
                "features are finite");
        return true;
    } catch (const media::MediaError& refused) {
        const std::string text = refused.what();
        require(!text.empty() && text.find('\n') == std::string::npos, "a refusal is one sentence");
        return false;
    }
}

}  // namespace m4::fuzz
