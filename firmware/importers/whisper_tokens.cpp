// SPDX-License-Identifier: MIT
// Which of Whisper's tokens ask for what, as its generation_config.json says.
#include <algorithm>
#include <vector>

#include "lib/error.hpp"
#include "mapped_file.hpp"
#include "whisper.hpp"

namespace m4::firmware {

namespace {

/// A time token stands for so much after the one before it.
constexpr std::uint32_t kTimestampMs = 20;

std::uint32_t token_in(const nlohmann::json& json, const JsonObject& file, const std::string& key,
                       std::uint32_t vocabulary) {
    const bool good = json.is_number_unsigned() && json.get<std::uint64_t>() < vocabulary;
    if (!good) {
        throw Error(file.key_place(key),
                    json.dump() + " is no token of " + std::to_string(vocabulary));
    }
    return json.get<std::uint32_t>();
}

std::optional<std::uint32_t> token(const JsonObject& file, const std::string& key,
                                   std::uint32_t vocabulary) {
    if (!file.has(key)) {
        return std::nullopt;
    }
    return token_in(file.json().at(key), file, key, vocabulary);
}

std::vector<std::uint32_t> tokens(const JsonObject& file, const std::string& key,
                                  std::uint32_t vocabulary) {
    std::vector<std::uint32_t> all;
    if (!file.has(key)) {
        return all;
    }
    const nlohmann::json& list = file.json().at(key);
    if (!list.is_array()) {
        throw Error(file.key_place(key), "is no list");
    }
    for (const nlohmann::json& one : list) {
        all.push_back(token_in(one, file, key, vocabulary));
    }
    return all;
}

/// "<|en|>" names the language en.
std::string language_code(const std::string& name) {
    const bool marked = name.size() > 4 && name.starts_with("<|") && name.ends_with("|>");
    return marked ? name.substr(2, name.size() - 4) : name;
}

void read_tasks(const JsonObject& file, std::uint32_t vocabulary, Transcription& out) {
    const auto languages = file.object_value("lang_to_id");
    const auto tasks = file.object_value("task_to_id");
    if (!languages || languages->json().empty() || !tasks) {
        return;
    }
    for (const auto& [name, id] : languages->json().items()) {
        out.languages.push_back({language_code(name), token_in(id, *languages, name, vocabulary)});
    }
    const auto transcribe = token(*tasks, "transcribe", vocabulary);
    if (!transcribe) {
        throw Error(tasks->key_place("transcribe"), "is missing");
    }
    out.transcribe = *transcribe;
    out.translate = token(*tasks, "translate", vocabulary).value_or(0);
}

float threshold(const JsonObject& file, const char* key, double published, double above,
                double most) {
    const double value = file.real_value(key).value_or(published);
    if (!(value > above && value <= most)) {
        throw Error(file.key_place(key), "is not above " + std::to_string(above) + " and at most " +
                                             std::to_string(most));
    }
    return static_cast<float>(value);
}

/// <|nospeech|> is in front of <|notimestamps|>, where that is not a token for other
/// things; by the thresholds of the paper, 4.5, if the file has none.
void read_silence(const JsonObject& file, Transcription& out) {
    if (out.no_timestamps < 2) {
        return;
    }
    const std::uint32_t token = out.no_timestamps - 1;
    const bool taken =
        token == out.start || token == out.end || token == out.transcribe ||
        token == out.translate ||
        std::ranges::find(out.languages, token, &Language::token) != out.languages.end();
    if (!taken) {
        out.no_speech = token;
        out.no_speech_probability = threshold(file, "no_speech_threshold", 0.6, 1e-6, 1);
        out.least_log_probability = threshold(file, "logprob_threshold", -1.0, -1000, -1e-6);
    }
}

}  // namespace

std::optional<Transcription> whisper_transcription(const std::filesystem::path& path,
                                                   const JsonObject& config,
                                                   std::uint32_t vocabulary) {
    const auto own = beside(path, "generation_config.json");
    const JsonObject file = is_there(own) ? JsonObject::read(own) : config;
    const auto start = token(file, "decoder_start_token_id", vocabulary);
    const auto end = token(file, "eos_token_id", vocabulary);
    if (!start || !end) {
        return std::nullopt;
    }
    Transcription out;
    out.start = *start;
    out.end = *end;
    read_tasks(file, vocabulary, out);
    if (const auto none = token(file, "no_timestamps_token_id", vocabulary)) {
        out.no_timestamps = *none;
        // Times are all that is behind it.
        if (*none + 1 < vocabulary) {
            out.first_timestamp = *none + 1;
            out.timestamp_ms = kTimestampMs;
            const auto latest = file.unsigned_value("max_initial_timestamp_index").value_or(0);
            out.latest_first =
                latest < vocabulary - out.first_timestamp ? static_cast<std::uint32_t>(latest) : 0;
        }
    }
    read_silence(file, out);
    out.suppressed = tokens(file, "suppress_tokens", vocabulary);
    out.suppressed_first = tokens(file, "begin_suppress_tokens", vocabulary);
    return out;
}

}  // namespace m4::firmware
