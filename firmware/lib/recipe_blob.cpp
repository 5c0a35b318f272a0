// SPDX-License-Identifier: MIT
#include "recipe_blob.hpp"

#include "error.hpp"
#include "limits.hpp"

namespace m4::firmware {

namespace {

using Buffer = flatbuffers::FlatBufferBuilder;

RecipeBlob encode(Buffer& buffer, const ImageRecipe& in) {
    const auto mean = buffer.CreateVector(in.mean);
    const auto std = buffer.CreateVector(in.std);
    return {fb::Recipe::ImageRecipe,
            fb::CreateImageRecipe(buffer, in.channels, in.short_side, in.height, in.width, mean,
                                  std, static_cast<fb::ResizeFilter>(in.filter), in.stretched)
                .Union()};
}

RecipeBlob encode(Buffer& buffer, const AudioRecipe& in) {
    fb::AudioRecipeBuilder out(buffer);
    out.add_sample_rate(in.sample_rate);
    out.add_clips(in.clips);
    out.add_clip_samples(in.clip_samples);
    out.add_padded(in.padded);
    out.add_subtract_mean(in.subtract_mean);
    out.add_frame_samples(in.frame_samples);
    out.add_frame_shift(in.frame_shift);
    out.add_fft_samples(in.fft_samples);
    out.add_centred(in.centred);
    out.add_subtract_frame_mean(in.subtract_frame_mean);
    out.add_pre_emphasis(in.pre_emphasis);
    out.add_window(static_cast<fb::WindowKind>(in.window));
    out.add_power(in.power);
    out.add_mel_bins(in.mel_bins);
    out.add_mel_scale(static_cast<fb::MelScale>(in.mel_scale));
    out.add_low_hz(in.low_hz);
    out.add_high_hz(in.high_hz);
    out.add_log(static_cast<fb::LogKind>(in.log));
    out.add_log_floor(in.log_floor);
    out.add_coefficients(in.coefficients);
    out.add_frames(in.frames);
    out.add_frames_first(in.frames_first);
    out.add_mean(in.mean);
    out.add_std(in.std);
    return {fb::Recipe::AudioRecipe, out.Finish().Union()};
}

RecipeBlob encode(Buffer& buffer, const MotionRecipe& in) {
    const auto scale = buffer.CreateVector(in.scale);
    return {fb::Recipe::MotionRecipe, fb::CreateMotionRecipe(buffer, in.channels, in.samples,
                                                             in.rate_hz, in.channels_first, scale)
                                          .Union()};
}

RecipeBlob encode(Buffer& buffer, const TextRecipe& in) {
    return {fb::Recipe::TextRecipe, fb::CreateTextRecipe(buffer, in.pad_id).Union()};
}

RecipeBlob encode(Buffer& /*buffer*/, std::monostate /*none*/) {
    return {};
}

std::vector<float> floats(const flatbuffers::Vector<float>* in, const std::string& place) {
    if (in == nullptr) {
        return {};
    }
    if (in->size() > kMaxChannels) {
        throw Error(place, "a list of " + std::to_string(in->size()) + " numbers, more than " +
                               std::to_string(kMaxChannels));
    }
    return {in->begin(), in->end()};
}

ImageRecipe decode(const fb::ImageRecipe& in, const std::string& place) {
    return {in.channels(),
            in.short_side(),
            in.height(),
            in.width(),
            floats(in.mean(), place),
            floats(in.std(), place),
            static_cast<ResizeFilter>(in.filter()),
            in.stretched()};
}

AudioRecipe decode(const fb::AudioRecipe& in) {
    AudioRecipe out;
    out.sample_rate = in.sample_rate();
    out.clips = in.clips();
    out.clip_samples = in.clip_samples();
    out.padded = in.padded();
    out.subtract_mean = in.subtract_mean();
    out.frame_samples = in.frame_samples();
    out.frame_shift = in.frame_shift();
    out.fft_samples = in.fft_samples();
    out.centred = in.centred();
    out.subtract_frame_mean = in.subtract_frame_mean();
    out.pre_emphasis = in.pre_emphasis();
    out.window = static_cast<WindowKind>(in.window());
    out.power = in.power();
    out.mel_bins = in.mel_bins();
    out.mel_scale = static_cast<MelScale>(in.mel_scale());
    out.low_hz = in.low_hz();
    out.high_hz = in.high_hz();
    out.log = static_cast<LogKind>(in.log());
    out.log_floor = in.log_floor();
    out.coefficients = in.coefficients();
    out.frames = in.frames();
    out.frames_first = in.frames_first();
    out.mean = in.mean();
    out.std = in.std();
    return out;
}

}  // namespace

RecipeBlob encode_recipe(Buffer& buffer, const Recipe& recipe) {
    return std::visit([&](const auto& known) { return encode(buffer, known); }, recipe);
}

Recipe decode_recipe(const fb::Part& part, const std::string& place) {
    // FlatBuffers' verifier lets a union be of a kind and without a table.
    if (part.recipe_type() != fb::Recipe::NONE && part.recipe() == nullptr) {
        throw Error(place, "is of a kind and has no table");
    }
    switch (part.recipe_type()) {
        case fb::Recipe::NONE:
            return {};
        case fb::Recipe::ImageRecipe:
            return decode(*part.recipe_as_ImageRecipe(), place);
        case fb::Recipe::AudioRecipe:
            return decode(*part.recipe_as_AudioRecipe());
        case fb::Recipe::MotionRecipe: {
            const fb::MotionRecipe& in = *part.recipe_as_MotionRecipe();
            return MotionRecipe{in.channels(), in.samples(), in.rate_hz(), in.channels_first(),
                                floats(in.scale(), place)};
        }
        case fb::Recipe::TextRecipe:
            return TextRecipe{part.recipe_as_TextRecipe()->pad_id()};
    }
    throw Error(place, "unknown kind " + std::to_string(static_cast<unsigned>(part.recipe_type())));
}

}  // namespace m4::firmware
