// SPDX-License-Identifier: MIT
#include "recipe_text.hpp"

#include <sstream>

namespace m4::tools {

namespace {

using nlohmann::ordered_json;

const char* name_of(firmware::ResizeFilter filter) {
    return filter == firmware::ResizeFilter::bilinear ? "bilinear" : "bicubic";
}

const char* name_of(firmware::WindowKind window) {
    return window == firmware::WindowKind::hann ? "hann" : "hann_periodic";
}

const char* name_of(firmware::MelScale scale) {
    return scale == firmware::MelScale::htk ? "htk" : "slaney";
}

const char* name_of(firmware::LogKind log) {
    return log == firmware::LogKind::natural ? "natural" : "decibel_range";
}

std::string text(std::monostate /*none*/) {
    return {};
}

std::string text(const firmware::ImageRecipe& recipe) {
    std::ostringstream out;
    out << "image, " << recipe.width << " x " << recipe.height
        << (recipe.channels == 1 ? " gray" : " RGB");
    if (recipe.short_side != 0) {
        out << (recipe.stretched ? " of both sides " : " of the short side ") << recipe.short_side
            << ' ' << name_of(recipe.filter);
    }
    return out.str();
}

std::string text(const firmware::AudioRecipe& recipe) {
    std::ostringstream out;
    out << "audio, " << recipe.sample_rate << " Hz, ";
    if (recipe.clips > 1) {
        out << recipe.clips << " clips of ";
    }
    out << recipe.clip_samples << " samples, " << recipe.frames << " frames of " << recipe.columns()
        << (recipe.coefficients != 0 ? " coefficients" : " mel bins");
    return out.str();
}

std::string text(const firmware::MotionRecipe& recipe) {
    std::ostringstream out;
    out << "motion, " << recipe.channels << " channels, " << recipe.samples << " samples at "
        << recipe.rate_hz << " Hz";
    return out.str();
}

std::string text(const firmware::TextRecipe& recipe) {
    return "text, padded by token " + std::to_string(recipe.pad_id);
}

ordered_json json(std::monostate /*none*/) {
    return nullptr;
}

ordered_json json(const firmware::ImageRecipe& recipe) {
    return {{"kind", "image"},
            {"channels", recipe.channels},
            {"short_side", recipe.short_side},
            {"height", recipe.height},
            {"width", recipe.width},
            {"mean", recipe.mean},
            {"std", recipe.std},
            {"filter", name_of(recipe.filter)},
            {"stretched", recipe.stretched}};
}

ordered_json json(const firmware::AudioRecipe& recipe) {
    return {{"kind", "audio"},
            {"sample_rate", recipe.sample_rate},
            {"clips", recipe.clips},
            {"clip_samples", recipe.clip_samples},
            {"padded", recipe.padded},
            {"subtract_mean", recipe.subtract_mean},
            {"frame_samples", recipe.frame_samples},
            {"frame_shift", recipe.frame_shift},
            {"fft_samples", recipe.fft_samples},
            {"centred", recipe.centred},
            {"subtract_frame_mean", recipe.subtract_frame_mean},
            {"pre_emphasis", recipe.pre_emphasis},
            {"window", name_of(recipe.window)},
            {"power", recipe.power},
            {"mel_bins", recipe.mel_bins},
            {"mel_scale", name_of(recipe.mel_scale)},
            {"low_hz", recipe.low_hz},
            {"high_hz", recipe.high_hz},
            {"log", name_of(recipe.log)},
            {"log_floor", recipe.log_floor},
            {"coefficients", recipe.coefficients},
            {"frames", recipe.frames},
            {"frames_first", recipe.frames_first},
            {"mean", recipe.mean},
            {"std", recipe.std}};
}

ordered_json json(const firmware::MotionRecipe& recipe) {
    return {{"kind", "motion"},
            {"channels", recipe.channels},
            {"samples", recipe.samples},
            {"rate_hz", recipe.rate_hz},
            {"channels_first", recipe.channels_first},
            {"scale", recipe.scale}};
}

ordered_json json(const firmware::TextRecipe& recipe) {
    return {{"kind", "text"}, {"pad_id", recipe.pad_id}};
}

}  // namespace

std::string recipe_text(const firmware::Recipe& recipe) {
    return std::visit([](const auto& known) { return text(known); }, recipe);
}

ordered_json recipe_json(const firmware::Recipe& recipe) {
    return std::visit([](const auto& known) { return json(known); }, recipe);
}

}  // namespace m4::tools
