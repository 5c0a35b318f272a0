// SPDX-License-Identifier: MIT
// m4ctl transcribe: a recording of speech, written down.
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "media_args.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

using Transcript = std::unique_ptr<m4_transcript, Closer<m4_transcript_free>>;

struct TranscribeOptions {
    std::string file;
    std::string part;
    std::string language;
    bool translate = false;
    bool timestamps = false;
    uint32_t beam = 1;
    uint32_t max_tokens = 0;
    std::vector<uint32_t> prompt;
};

/// 0:01:02.340
std::string time_text(uint64_t ms) {
    const auto two = [](uint64_t value) { return (value < 10 ? "0" : "") + std::to_string(value); };
    const std::string rest = std::to_string(1000 + ms % 1000).substr(1);
    return std::to_string(ms / 3'600'000) + ":" + two(ms / 60'000 % 60) + ":" +
           two(ms / 1000 % 60) + "." + rest;
}

/// Ids where the model was packed without its tokeniser.
std::string words_of(const m4_segment& segment) {
    if (*segment.text != '\0' || segment.id_count == 0) {
        return printable(segment.text, false);
    }
    std::string ids;
    for (std::size_t i = 0; i < segment.id_count; ++i) {
        ids += (i == 0 ? "" : " ") + std::to_string(segment.ids[i]);
    }
    return ids;
}

const char* or_null(const std::string& text) {
    return text.empty() ? nullptr : text.c_str();
}

void print(const m4_transcript& transcript, bool times) {
    for (std::size_t i = 0; i < transcript.segment_count; ++i) {
        const m4_segment& segment = transcript.segments[i];
        const std::string from = time_text(segment.start_ms);
        print_raw((times ? "[" + from + " - " + time_text(segment.end_ms) + "] " : "") +
                  words_of(segment) + "\n");
    }
}

int transcribe(const Global& global, const TranscribeOptions& options) {
    const LoadedMedia loaded({Sense::audio, options.file});
    const m4_media input = loaded.view();
    const Client client = connect(global);
    m4_transcribe_options how = M4_INIT(m4_transcribe_options);
    how.part = or_null(options.part);
    how.language = or_null(options.language);
    how.translate = options.translate ? 1 : 0;
    how.timestamps = options.timestamps ? 1 : 0;
    how.beam = options.beam;
    how.max_tokens = options.max_tokens;
    how.prompt = options.prompt.empty() ? nullptr : options.prompt.data();
    how.prompt_count = options.prompt.size();
    m4_transcript* raw = nullptr;
    check(m4_transcribe(client.get(), &input, &how, &raw), client.get());
    const Transcript transcript(raw);
    if (!global.json) {
        print(*transcript, options.timestamps);
        return kExitOk;
    }
    nlohmann::json segments = nlohmann::json::array();
    for (std::size_t i = 0; i < transcript->segment_count; ++i) {
        const m4_segment& segment = transcript->segments[i];
        segments.push_back(
            {{"start_ms", segment.start_ms},
             {"end_ms", segment.end_ms},
             {"text", segment.text},
             {"ids", std::vector<uint32_t>(segment.ids, segment.ids + segment.id_count)}});
    }
    print_json({{"part", transcript->part},
                {"language", transcript->language},
                {"windows", transcript->windows},
                {"text", transcript->text},
                {"segments", std::move(segments)}});
    return kExitOk;
}

}  // namespace

void add_transcribe(CLI::App& app, const Global& global, Action& action) {
    auto options = std::make_shared<TranscribeOptions>();
    CLI::App* command = app.add_subcommand("transcribe", "Write a recording of speech down");
    command->add_option("file", options->file, "WAV, FLAC, or FILE.safetensors#tensor[i]")
        ->required()
        ->type_name("FILE");
    command->add_option("--part", options->part, "Part of the model; else the first that writes")
        ->type_name("NAME");
    command->add_option("--language", options->language, "That is spoken; else the model hears")
        ->type_name("CODE");
    command->add_flag("--translate", options->translate, "Into English");
    command->add_flag("--timestamps", options->timestamps, "Segments with their times");
    command->add_option("--beam", options->beam, "Ways to go on that are kept, 1 to 5")
        ->type_name("N")
        ->check(CLI::Range(1, 5).description(""))
        ->capture_default_str();
    command->add_option("--max-tokens", options->max_tokens, "Of 30 seconds; 0: as many as fit")
        ->type_name("N");
    command
        ->add_option("--prompt-ids", options->prompt,
                     "Tokens that begin each window instead of what the model says")
        ->type_name("ID")
        ->delimiter(',');
    command->callback(
        [&, options] { action = [&, options] { return transcribe(global, *options); }; });
}

}  // namespace m4ctl
