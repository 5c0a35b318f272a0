// SPDX-License-Identifier: MIT
#include "sound.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "bounds.hpp"
#include "resample.hpp"

namespace m4::media {

namespace {

std::uint32_t sample_bytes(Kind kind) {
    return kind == Kind::pcm16 ? 2 : 4;
}

float pcm16_at(const std::byte* from) {
    std::int16_t number = 0;
    std::memcpy(&number, from, sizeof(number));
    return static_cast<float>(number) / 32'768;
}

/// Where clips begin, at even distances.
std::vector<std::uint64_t> starts_of(std::uint32_t clips, std::uint64_t samples,
                                     std::uint64_t clip_samples) {
    const std::uint64_t last = samples > clip_samples ? samples - clip_samples : 0;
    std::vector<std::uint64_t> starts(clips, 0);
    for (std::uint32_t i = 1; i < clips; ++i) {
        starts[i] = last * i / (clips - 1);
    }
    return starts;
}

}  // namespace

Sound::Sound(const Descriptor& media, std::span<const std::byte> file) : media_(media) {
    check_range("channels", media.channels, 1, kMaxSoundChannels);
    check_rate(media.rate_hz);
    if (media.samples == 0) {
        throw MediaError("samples 0: the recording is empty");
    }
    const std::uint64_t row = media.channels * sample_bytes(media.kind);
    bytes_ = bytes_at(file, "offset", media.offset, product(media.samples, row));
}

void Sound::read(std::uint64_t first, std::span<float> out) const {
    const std::uint32_t channels = media_.channels;
    const std::uint32_t bytes = sample_bytes(media_.kind);
    const std::byte* from = bytes_.data() + first * channels * bytes;
    for (std::size_t i = 0; i < out.size(); ++i) {
        double sum = 0;
        for (std::uint32_t channel = 0; channel < channels; ++channel, from += bytes) {
            sum += media_.kind == Kind::pcm16 ? pcm16_at(from)
                                              : finite(float_at(from), first + i, channel);
        }
        out[i] = static_cast<float>(sum / channels);
    }
}

std::vector<std::vector<float>> cut_clips(const firmware::AudioRecipe& recipe, const Sound& sound) {
    const Rates rates{sound.rate(), static_cast<double>(recipe.sample_rate)};
    const bool same = rates.from == rates.to;
    const std::uint64_t samples = same ? sound.samples() : resampled(sound.samples(), rates);
    const std::uint64_t kept = std::min<std::uint64_t>(samples, recipe.clip_samples);
    const std::uint64_t length = recipe.padded ? recipe.clip_samples : kept;
    const auto starts = starts_of(recipe.clips, samples, recipe.clip_samples);
    const std::uint64_t wanted = starts.back() + kept;
    if (!same && recipe.clips > 1 && std::max(wanted, sound.samples()) > kMaxResampled) {
        throw MediaError("samples " + std::to_string(sound.samples()) +
                         ": the recording is too long to be resampled for several clips");
    }
    check_features(recipe.clips, {1, static_cast<std::uint32_t>(length)});
    std::vector<std::vector<float>> clips(recipe.clips, std::vector<float>(length));
    if (same) {
        for (std::size_t i = 0; i < clips.size(); ++i) {
            sound.read(starts[i], std::span(clips[i]).first(kept));
        }
        return clips;
    }
    resample(
        rates, 1, sound.samples(), wanted,
        [&](std::uint64_t first, std::span<float> out) { sound.read(first, out); },
        [&](std::uint64_t first, std::span<const float> rows) {
            for (std::size_t i = 0; i < clips.size(); ++i) {
                const std::uint64_t from = std::max(first, starts[i]);
                const std::uint64_t to = std::min(first + rows.size(), starts[i] + kept);
                if (from < to) {
                    std::copy_n(rows.data() + (from - first), to - from,
                                clips[i].data() + (from - starts[i]));
                }
            }
        });
    return clips;
}

}  // namespace m4::media
