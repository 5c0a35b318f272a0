// SPDX-License-Identifier: MIT
#include "recipes.hpp"

#include <limits>

namespace m4::firmware {

namespace {

/// Of all sound here: frames of 25 ms, one each 10 ms.
constexpr std::uint32_t kSampleRate = 16'000;
constexpr std::uint32_t kFrameSamples = 400;
constexpr std::uint32_t kFrameShift = 160;

}  // namespace

ImageRecipe clip_image_recipe(std::uint32_t side) {
    return {.channels = 3,
            .short_side = side,
            .height = side,
            .width = side,
            .mean = {0.48145466F, 0.4578275F, 0.40821073F},
            .std = {0.26862954F, 0.26130258F, 0.27577711F}};
}

ImageRecipe vit_image_recipe(std::uint32_t side) {
    return {.channels = 3,
            .short_side = side * 10 / 9,
            .height = side,
            .width = side,
            .mean = {0.5F, 0.5F, 0.5F},
            .std = {0.5F, 0.5F, 0.5F}};
}

ImageRecipe deit_image_recipe(std::uint32_t side) {
    return {.channels = 3,
            .short_side = side * 8 / 7,
            .height = side,
            .width = side,
            .mean = {0.485F, 0.456F, 0.406F},
            .std = {0.229F, 0.224F, 0.225F}};
}

ImageRecipe mnist_recipe(std::uint32_t side) {
    return {.channels = 1,
            .short_side = side,
            .height = side,
            .width = side,
            .mean = {0.1307F},
            .std = {0.3081F}};
}

AudioRecipe imagebind_audio_recipe() {
    AudioRecipe recipe;
    recipe.sample_rate = kSampleRate;
    recipe.clips = 3;
    recipe.clip_samples = 2 * kSampleRate;
    recipe.padded = false;
    recipe.subtract_mean = true;
    recipe.frame_samples = kFrameSamples;
    recipe.frame_shift = kFrameShift;
    recipe.fft_samples = 512;
    recipe.subtract_frame_mean = true;
    recipe.pre_emphasis = 0.97F;
    recipe.window = WindowKind::hann;
    recipe.power = 2;
    recipe.mel_bins = 128;
    recipe.mel_scale = MelScale::htk;
    recipe.low_hz = 20;
    recipe.high_hz = kSampleRate / 2;
    recipe.log = LogKind::natural;
    recipe.log_floor = std::numeric_limits<float>::epsilon();
    recipe.frames = 204;
    recipe.mean = -4.268F;
    recipe.std = 9.138F;
    return recipe;
}

AudioRecipe whisper_recipe(std::uint32_t bins, std::uint32_t frames) {
    AudioRecipe recipe;
    recipe.sample_rate = kSampleRate;
    recipe.clip_samples = frames * kFrameShift;
    recipe.frame_samples = kFrameSamples;
    recipe.frame_shift = kFrameShift;
    recipe.fft_samples = kFrameSamples;
    recipe.centred = true;
    recipe.window = WindowKind::hann_periodic;
    recipe.power = 2;
    recipe.mel_bins = bins;
    recipe.mel_scale = MelScale::slaney;
    recipe.low_hz = 0;
    recipe.high_hz = kSampleRate / 2;
    recipe.log = LogKind::decibel_range;
    recipe.log_floor = 1e-10F;
    recipe.frames = frames;
    return recipe;
}

MotionRecipe imagebind_motion_recipe() {
    return {.channels = 6, .samples = 2000, .rate_hz = 400, .channels_first = true};
}

MotionRecipe limu_bert_recipe(std::uint32_t samples, std::uint32_t channels) {
    return {.channels = channels, .samples = samples, .rate_hz = 20};
}

}  // namespace m4::firmware
