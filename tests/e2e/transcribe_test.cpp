// SPDX-License-Identifier: MIT
// Speech written down as a user asks for it: packed by m4fw, served by m4d, asked
// through libm4client and m4ctl; against a plain decoder over the reference data.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "plain_whisper.hpp"
#include "reference_data.hpp"
#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

using Ids = std::vector<std::uint32_t>;

/// A random Whisper of windows of 2 s, with tokens that ask it.
std::filesystem::path pack_random(const Scratch& scratch) {
    const WhisperDims dims;
    write_file(scratch / "config.json", whisper_config(dims));
    write_file(scratch / "generation_config.json",
               std::string_view(R"({"decoder_start_token_id": 30, "eos_token_id": 29,
"lang_to_id": {"<|en|>": 31, "<|de|>": 32}, "task_to_id": {"translate": 33, "transcribe": 34},
"no_timestamps_token_id": 35})"));
    std::string vocabulary = "{";
    for (char letter = 'A'; letter < 'A' + 29; ++letter) {
        // Behind Z come other characters, the backslash among them.
        vocabulary += (letter == 'A' ? "\"" : ", \"") + std::string(letter == '\\' ? "\\" : "") +
                      letter + "\": " + std::to_string(letter - 'A');
    }
    write_file(scratch / "vocab.json", vocabulary + "}");
    write_file(scratch / "model.safetensors",
               safetensors_bytes(random_whisper(dims, 5).checkpoint()));
    return packed(scratch / "model.safetensors", "f32");
}

std::vector<float> tone(std::size_t samples) {
    std::vector<float> values(samples);
    for (std::size_t i = 0; i < samples; ++i) {
        values[i] = 0.4F * std::sin(static_cast<float>(i) * 0.1F) *
                    std::sin(static_cast<float>(i) * 0.0003F);
    }
    return values;
}

m4_media sound_of(const std::vector<float>& samples) {
    m4_media media = M4_INIT(struct m4_media);
    media.kind = M4_MEDIA_PCM_F32;
    media.data = samples.data();
    media.bytes = samples.size() * sizeof(float);
    media.channels = 1;
    media.rate_hz = 16'000;
    return media;
}

struct Told {
    int status = 0;
    std::string language;
    std::uint32_t windows = 0;
    std::vector<Ids> ids;
    std::vector<std::array<std::uint64_t, 2>> times;
};

Told transcribe(const Client& client, const m4_media& media, const m4_transcribe_options& options) {
    Told told;
    m4_transcript* raw = nullptr;
    told.status = m4_transcribe(client.get(), &media, &options, &raw);
    if (told.status != M4_OK) {
        return told;
    }
    told.language = raw->language;
    told.windows = raw->windows;
    for (std::size_t i = 0; i < raw->segment_count; ++i) {
        const m4_segment& segment = raw->segments[i];
        told.ids.emplace_back(segment.ids, segment.ids + segment.id_count);
        told.times.push_back({segment.start_ms, segment.end_ms});
    }
    m4_transcript_free(raw);
    return told;
}

}  // namespace

TEST_CASE("transcribe: Whisper's tokens through m4d are those of a plain decoder") {
    if (!have_vulkan_driver()) {
        M4_SKIP("no Vulkan driver: m4d needs one to run");
    }
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::string folder = shared_data() + "/whisper-tiny/whisper-tiny.";
    const std::string io = folder + "io.safetensors";
    const WhisperDims dims{.width = 64,
                           .heads = 4,
                           .layers = 2,
                           .inner = 256,
                           .bins = 80,
                           .rows = 1500,
                           .context = 64,
                           .vocabulary = 520};
    PlainTensors tensors(1);
    for (const auto& [name, tensor] : random_whisper(dims, 1).checkpoint()) {
        tensors.set(name, tensor.shape, reference<float>(folder + "safetensors", name));
    }
    const auto hidden = reference<float>(io, "out.encoder");
    Rows rows;
    for (std::size_t i = 0; i < hidden.size(); i += dims.width) {
        const auto first = hidden.begin() + static_cast<std::ptrdiff_t>(i);
        rows.emplace_back(first, first + dims.width);
    }
    const auto start = static_cast<std::uint32_t>(reference<std::int64_t>(io, "in.tokens")[0]);
    const auto wanted = PlainDecoder(tensors, dims, rows).greedy({start}, 24);
    CHECK(wanted.margin > 1e-2);

    const Service service(packed(folder + "safetensors", "f32"));
    const json told = service.ctl_json({"transcribe", io + "#in.mel[0]", "--prompt-ids",
                                        std::to_string(start), "--max-tokens", "24"});
    CHECK(told.at("part") == "speech-text");
    CHECK(told.at("windows") == 1);
    REQUIRE(told.at("segments").size() == 1);
    CHECK(told.at("segments")[0].at("ids").get<Ids>() == wanted.ids);
    CHECK(told.at("segments")[0].at("end_ms") == 30'000);
    const Finished nothing = service.ctl({"transcribe", io + "#in.mel[0]"});
    CHECK(nothing.status != 0);
    CHECK(nothing.err.find("does not say by which token a transcript begins") != std::string::npos);
}

TEST_CASE("transcribe: sound of any length goes window by window, greedily and by beams") {
    if (!have_vulkan_driver()) {
        M4_SKIP("no Vulkan driver: m4d needs one to run");
    }
    const Scratch scratch;
    const Service service(pack_random(scratch));
    const Client client = connect(service.socket());
    const auto samples = tone(16'000 * 5);
    const m4_media media = sound_of(samples);
    m4_transcribe_options options = M4_INIT(struct m4_transcribe_options);
    options.max_tokens = 6;
    const Told heard = transcribe(client, media, options);
    INFO(last_error(client.get()));
    REQUIRE(heard.status == M4_OK);
    CHECK(heard.windows == 3);
    CHECK((heard.language == "en" || heard.language == "de"));
    options.language = heard.language.c_str();
    const Told again = transcribe(client, media, options);
    CHECK(again.ids == heard.ids);
    CHECK(again.times == heard.times);
    for (std::size_t i = 0; i < heard.ids.size(); ++i) {
        CHECK(heard.ids[i].size() <= 6);
        CHECK(heard.times[i][1] <= 5000);
        for (const std::uint32_t id : heard.ids[i]) {
            CHECK(id < 29);  // nothing that asks, no times
        }
    }
    // The first window alone is the first of several.
    const auto first = tone(16'000 * 2);
    const Told one = transcribe(client, sound_of(first), options);
    REQUIRE(!one.ids.empty());
    CHECK(one.windows == 1);
    CHECK(one.ids[0] == heard.ids[0]);

    // The same from a file, in words.
    Bytes wav;
    wav.number<std::uint32_t>(0x46464952).number<std::uint32_t>(36 + 2 * 80'000);  // RIFF
    wav.number<std::uint32_t>(0x45564157).number<std::uint32_t>(0x20746d66);       // WAVE, fmt
    wav.number<std::uint32_t>(16).number<std::uint16_t>(1).number<std::uint16_t>(1);
    wav.number<std::uint32_t>(16'000).number<std::uint32_t>(32'000);
    wav.number<std::uint16_t>(2).number<std::uint16_t>(16);
    wav.number<std::uint32_t>(0x61746164).number<std::uint32_t>(2 * 80'000);  // data
    for (const float sample : samples) {
        wav.number<std::int16_t>(static_cast<std::int16_t>(sample * 32'768));
    }
    write_file(scratch / "tone.wav", wav.data);
    const json told = service.ctl_json({"transcribe", (scratch / "tone.wav").string(),
                                        "--max-tokens", "6", "--language", heard.language});
    CHECK(told.at("windows") == 3);
    CHECK(told.at("language") == heard.language);
    REQUIRE(told.at("segments").size() == heard.ids.size());
    for (const json& segment : told.at("segments")) {
        std::string words;
        for (const std::uint32_t id : segment.at("ids").get<Ids>()) {
            words += static_cast<char>('A' + static_cast<char>(id));
        }
        CHECK(segment.at("text") == words);
    }
    const Finished shown =
        service.ctl({"transcribe", (scratch / "tone.wav").string(), "--timestamps", "--beam", "2"});
    CHECK(shown.status == 0);

    options.beam = 5;
    const Told beams = transcribe(client, media, options);
    REQUIRE(beams.status == M4_OK);
    CHECK(beams.windows == 3);
    options.timestamps = 1;
    options.translate = 1;
    const Told timed = transcribe(client, media, options);
    REQUIRE(timed.status == M4_OK);
    std::uint64_t last = 0;
    for (const auto& [from, to] : timed.times) {
        CHECK(from <= to);
        CHECK(to <= 5000);
        CHECK(from >= last);
        last = from;
    }
}

TEST_CASE("transcribe: what cannot be is refused, and the service goes on") {
    if (!have_vulkan_driver()) {
        M4_SKIP("no Vulkan driver: m4d needs one to run");
    }
    const Scratch scratch;
    const Service service(pack_random(scratch));
    const Client client = connect(service.socket());
    auto samples = tone(16'000 * 3);
    m4_transcribe_options options = M4_INIT(struct m4_transcribe_options);
    const auto refused = [&](const m4_media& media, int code) {
        const Told told = transcribe(client, media, options);
        CAPTURE(last_error(client.get()));
        CHECK(told.status == code);
    };
    options.language = "xx";
    refused(sound_of(samples), M4_E_UNSUPPORTED);
    options.language = nullptr;
    options.part = "nobody";
    refused(sound_of(samples), M4_E_NOT_FOUND);
    options.part = nullptr;
    options.beam = 6;
    refused(sound_of(samples), M4_E_INVALID);
    options.beam = 1;
    const std::uint32_t prompt[] = {50};
    options.prompt = prompt;
    options.prompt_count = 1;
    refused(sound_of(samples), M4_E_INVALID);
    options.prompt_count = 0;
    m4_media media = sound_of(samples);
    media.samples = samples.size() + 1;
    refused(media, M4_E_INVALID);
    media = sound_of(samples);
    media.bytes = 0;
    refused(media, M4_E_INVALID);
    media = sound_of(samples);
    media.rate_hz = 0;
    refused(media, M4_E_INVALID);
    media = sound_of(samples);
    media.kind = M4_MEDIA_RGB8;
    refused(media, M4_E_INVALID);
    // In the second window, when the first is written down.
    samples[16'000 * 2 + 7] = NAN;
    refused(sound_of(samples), M4_E_INVALID);
    samples[16'000 * 2 + 7] = 0;
    options.max_tokens = 3;
    CHECK(transcribe(client, sound_of(samples), options).windows == 2);
}
