// SPDX-License-Identifier: MIT
#include "sched/speech.hpp"

#include <m4client.h>

#include <algorithm>
#include <utility>

#include "lib/part_ports.hpp"
#include "sched/transcribing.hpp"

namespace m4::sched {
namespace {

using firmware::Part;
using firmware::PartKind;

/// A decoder's encoder, which the image has: the verifier saw to that.
std::uint32_t encoder_of(const Parts& parts, const Part& decoder) {
    const auto found = std::ranges::find_if(parts.all(), [&](const Part& part) {
        return part.kind == PartKind::encoder && part.space == decoder.space;
    });
    return static_cast<std::uint32_t>(found - parts.all().begin());
}

std::uint32_t find_decoder(const Parts& parts, const std::string& name) {
    const Part* named = name.empty() ? nullptr : &parts.named(name);
    for (std::uint32_t i = 0; i < parts.all().size(); ++i) {
        const Part& part = parts.all()[i];
        if (part.kind == PartKind::decoder &&
            (named == nullptr || &part == named ||
             (named->kind == PartKind::encoder && named->space == part.space))) {
            return i;
        }
    }
    throw Refusal(M4_E_UNSUPPORTED, name.empty() ? "the image has no decoder of speech"
                                                 : "part '" + name + "' writes nothing down");
}

void check_language(const Part& decoder, const TranscribeInputs& inputs, Transcribe& what) {
    const auto& how = decoder.transcription;
    const auto unsupported = [&](const std::string& why) {
        return Refusal(M4_E_UNSUPPORTED, "part '" + decoder.name + "' " + why);
    };
    if (!inputs.language.empty()) {
        const auto found =
            how ? std::ranges::find(how->languages, inputs.language, &firmware::Language::code)
                : std::vector<firmware::Language>::const_iterator{};
        if (!how || found == how->languages.end()) {
            throw unsupported("knows no language '" + inputs.language + "'");
        }
        what.language = static_cast<std::uint32_t>(found - how->languages.begin());
    }
    if (inputs.translate && (!how || how->translate == 0)) {
        throw unsupported("does not translate");
    }
    if (inputs.timestamps && (!how || how->first_timestamp == 0)) {
        throw unsupported("tells no times");
    }
    if (!how && inputs.prompt.empty()) {
        throw unsupported("does not say by which token a transcript begins: give a prompt of ids");
    }
}

void check_numbers(const Part& decoder, const TranscribeInputs& inputs) {
    if (inputs.beam == 0 || inputs.beam > Transcribing::kMostBeams) {
        throw Refusal(M4_E_INVALID, "a beam of " + std::to_string(inputs.beam) + " is not 1 to " +
                                        std::to_string(Transcribing::kMostBeams));
    }
    if (inputs.prompt.size() > decoder.context_length) {
        throw Refusal(M4_E_TOO_LARGE, "the context of part '" + decoder.name + "' is " +
                                          std::to_string(decoder.context_length) + " tokens");
    }
    for (const std::uint32_t id : inputs.prompt) {
        if (id >= decoder.vocabulary) {
            throw Refusal(M4_E_INVALID, "token " + std::to_string(id) +
                                            " of the prompt is not in the vocabulary of " +
                                            std::to_string(decoder.vocabulary));
        }
    }
    // What a window's begin takes of the context otherwise.
    constexpr std::uint32_t kLongestBeginning = 4;
    if (inputs.prompt.empty() && decoder.context_length < kLongestBeginning) {
        throw Refusal(M4_E_UNSUPPORTED,
                      "the context of part '" + decoder.name + "' is too short for a transcript");
    }
}

/// Samples of the first window, at most; all of features.
media::Descriptor first_window(const Part& encoder, const MediaInput& input,
                               std::span<const std::byte> data) {
    media::Descriptor window = input.descriptor;
    const auto* recipe = std::get_if<firmware::AudioRecipe>(&encoder.recipe);
    const bool sound = window.kind == media::Kind::pcm16 || window.kind == media::Kind::pcm_f32;
    if (!sound || recipe == nullptr) {
        return window;
    }
    // Later windows are cut by these numbers.
    const std::uint64_t bytes = window.kind == media::Kind::pcm16 ? 2 : 4;
    if (window.channels == 0 || window.channels > media::kMaxSoundChannels ||
        !(window.rate_hz >= media::kMinRate && window.rate_hz <= media::kMaxRate)) {
        return window;  // media::prepare() says what is wrong
    }
    if (window.offset > data.size() ||
        window.samples > (data.size() - window.offset) / (window.channels * bytes)) {
        throw Refusal(M4_E_INVALID, "samples " + std::to_string(window.samples) + " of " +
                                        std::to_string(window.channels) +
                                        " channels are more than the data holds");
    }
    const double most = static_cast<double>(recipe->clip_samples) / recipe->sample_rate *
                        static_cast<double>(window.rate_hz);
    window.samples = std::min(window.samples, static_cast<std::uint64_t>(most));
    return window;
}

}  // namespace

Transcribe prepare_transcribe(const Parts& parts, const TranscribeInputs& inputs,
                              std::span<const std::byte> data, std::shared_ptr<const void> keep) {
    Transcribe what;
    what.decoder = find_decoder(parts, inputs.part);
    what.writer = &parts.all()[what.decoder];
    what.encoder = encoder_of(parts, *what.writer);
    what.listener = &parts.all()[what.encoder];
    what.tokenizer = parts.tokenizer(what.decoder);
    what.translate = inputs.translate;
    what.timestamps = inputs.timestamps;
    what.beam = inputs.beam;
    what.max_tokens = inputs.max_tokens;
    what.prompt = inputs.prompt;
    check_language(*what.writer, inputs, what);
    check_numbers(*what.writer, inputs);
    if (inputs.input.is_text || inputs.input.is_tokens) {
        throw Refusal(M4_E_INVALID, "a text is not to be transcribed");
    }
    // Nothing beyond the input's own bytes is read.
    const media::Descriptor& all = inputs.input.descriptor;
    what.data = data.first(all.offset + bytes_of(inputs.input, data).size());
    try {
        media::Prepared made = media::prepare(
            what.listener->recipe, firmware::port_shape(*what.listener, firmware::Role::features),
            first_window(*what.listener, inputs.input, what.data), what.data);
        what.features = std::move(made.features);
    } catch (const media::MediaError& error) {
        throw Refusal(M4_E_INVALID, error.what());
    }
    if (all.kind != media::Kind::features_f32) {
        what.sound = all;
        what.keep = std::move(keep);
    } else {
        what.data = {};
    }
    return what;
}

}  // namespace m4::sched
