// SPDX-License-Identifier: MIT
#include "recipe_rules.hpp"

#include <cmath>
#include <initializer_list>

#include "limits.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint32_t kMaxSide = 8192;
constexpr std::uint32_t kMaxRate = 768'000;
constexpr std::uint32_t kMaxClips = 64;
constexpr std::uint32_t kMaxClipSamples = 1U << 26U;
constexpr std::uint32_t kMaxTransform = 65'536;
constexpr std::uint32_t kMaxBins = 4096;
constexpr std::uint32_t kMaxFrames = 1U << 20U;
constexpr float kMaxMotionRate = 100'000;

struct Bound {
    const char* name;
    std::uint32_t value;
    std::uint32_t least;
    std::uint32_t most;
};

std::string out_of(std::initializer_list<Bound> bounds) {
    for (const Bound& bound : bounds) {
        if (bound.value < bound.least || bound.value > bound.most) {
            return std::string(bound.name) + " " + std::to_string(bound.value) + " is not " +
                   std::to_string(bound.least) + " to " + std::to_string(bound.most);
        }
    }
    return {};
}

std::string list_fault(const char* name, const std::vector<float>& list, std::uint32_t channels,
                       bool divides) {
    if (list.size() != channels) {
        return std::to_string(list.size()) + " numbers of " + name + " for " +
               std::to_string(channels) + " channels";
    }
    for (const float number : list) {
        if (!std::isfinite(number) || (divides && number == 0)) {
            return std::string(name) + " has a number that is " +
                   (std::isfinite(number) ? "0" : "not finite");
        }
    }
    return {};
}

std::string fault_of(const ImageRecipe& recipe) {
    if (recipe.channels != 1 && recipe.channels != 3) {
        return "channels " + std::to_string(recipe.channels) + " is not 1 or 3";
    }
    std::string fault = out_of({{"height", recipe.height, 1, kMaxSide},
                                {"width", recipe.width, 1, kMaxSide},
                                {"short_side", recipe.short_side, 0, kMaxSide}});
    if (fault.empty() && recipe.short_side != 0 &&
        (recipe.short_side < recipe.height || recipe.short_side < recipe.width)) {
        fault = "short_side " + std::to_string(recipe.short_side) + " is less than what is cut out";
    }
    if (fault.empty() && recipe.filter != ResizeFilter::bicubic &&
        recipe.filter != ResizeFilter::bilinear) {
        fault = "filter " + std::to_string(static_cast<unsigned>(recipe.filter)) + " is not known";
    }
    if (fault.empty()) {
        fault = list_fault("mean", recipe.mean, recipe.channels, false);
    }
    return fault.empty() ? list_fault("std", recipe.std, recipe.channels, true) : fault;
}

std::string numbers_fault(const AudioRecipe& recipe) {
    const float nyquist = static_cast<float>(recipe.sample_rate) / 2;
    if (!(recipe.low_hz >= 0 && recipe.high_hz > recipe.low_hz && recipe.high_hz <= nyquist)) {
        return "mel bins from low_hz to high_hz do not lie within 0 and half the sample_rate";
    }
    if (!(recipe.log_floor > 0 && std::isfinite(recipe.log_floor))) {
        return "log_floor is not above 0";
    }
    if (!(recipe.pre_emphasis >= 0 && recipe.pre_emphasis < 1)) {
        return "pre_emphasis is not 0 to below 1";
    }
    if (!std::isfinite(recipe.mean) || !std::isfinite(recipe.std) || recipe.std == 0) {
        return "mean or std is not finite, or std 0";
    }
    return {};
}

std::string fault_of(const AudioRecipe& recipe) {
    std::string fault =
        out_of({{"sample_rate", recipe.sample_rate, 1, kMaxRate},
                {"clips", recipe.clips, 1, kMaxClips},
                {"clip_samples", recipe.clip_samples, 1, kMaxClipSamples},
                {"frame_samples", recipe.frame_samples, 2, kMaxTransform},
                {"frame_shift", recipe.frame_shift, 1, kMaxTransform},
                {"fft_samples", recipe.fft_samples, recipe.frame_samples, kMaxTransform},
                {"power", recipe.power, 1, 2},
                {"mel_bins", recipe.mel_bins, 1, kMaxBins},
                {"coefficients", recipe.coefficients, 0, recipe.mel_bins},
                {"frames", recipe.frames, 1, kMaxFrames},
                {"window", static_cast<std::uint32_t>(recipe.window), 1, 2},
                {"mel_scale", static_cast<std::uint32_t>(recipe.mel_scale), 1, 2},
                {"log", static_cast<std::uint32_t>(recipe.log), 1, 2}});
    if (fault.empty() && recipe.fft_samples % 2 != 0) {
        fault = "fft_samples " + std::to_string(recipe.fft_samples) + " is odd";
    }
    // Mirroring takes samples of the clip itself.
    const std::uint32_t least = recipe.centred ? recipe.fft_samples / 2 + 1 : recipe.frame_samples;
    if (fault.empty() && recipe.clip_samples < least) {
        fault = "clip_samples " + std::to_string(recipe.clip_samples) + " is no frame";
    }
    return fault.empty() ? numbers_fault(recipe) : fault;
}

std::string fault_of(const MotionRecipe& recipe) {
    std::string fault = out_of({{"channels", recipe.channels, 1, kMaxChannels},
                                {"samples", recipe.samples, 1, kMaxFrames}});
    if (fault.empty() && !(recipe.rate_hz > 0 && recipe.rate_hz <= kMaxMotionRate)) {
        fault = "rate_hz is not above 0 to 100000";
    }
    if (fault.empty() && !recipe.scale.empty()) {
        fault = list_fault("scale", recipe.scale, recipe.channels, false);
    }
    return fault;
}

/// pad_id is held against the vocabulary where that is known.
std::string fault_of(const TextRecipe& /*recipe*/) {
    return {};
}

std::string fault_of(std::monostate /*none*/) {
    return {};
}

FeatureShape shape(const ImageRecipe& recipe) {
    return {recipe.channels * recipe.height, recipe.width};
}

FeatureShape shape(const AudioRecipe& recipe) {
    return recipe.frames_first ? FeatureShape{recipe.frames, recipe.columns()}
                               : FeatureShape{recipe.columns(), recipe.frames};
}

FeatureShape shape(const MotionRecipe& recipe) {
    return recipe.channels_first ? FeatureShape{recipe.channels, recipe.samples}
                                 : FeatureShape{recipe.samples, recipe.channels};
}

FeatureShape shape(const TextRecipe& /*recipe*/) {
    return {};
}

FeatureShape shape(std::monostate /*none*/) {
    return {};
}

}  // namespace

std::string recipe_fault(const Recipe& recipe) {
    return std::visit([](const auto& known) { return fault_of(known); }, recipe);
}

FeatureShape shape_of(const Recipe& recipe) {
    return std::visit([](const auto& known) { return shape(known); }, recipe);
}

}  // namespace m4::firmware
