// SPDX-License-Identifier: MIT
#include "decoder_rules.hpp"

#include <algorithm>
#include <set>

#include "error.hpp"
#include "limits.hpp"
#include "part_ports.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint32_t kMostTimestampMs = 60'000;
constexpr float kLeastLogarithm = -1000;

const Program& program_of(const Part& part, const char* name, const std::string& place) {
    const auto found = std::find_if(part.programs.begin(), part.programs.end(),
                                    [&](const Program& program) { return program.name == name; });
    if (found == part.programs.end()) {
        throw Error(place, std::string("no program '") + name + "'");
    }
    return *found;
}

void check_languages(const Transcription& how, std::uint32_t vocabulary, const std::string& place) {
    std::set<std::string> codes;
    for (const Language& language : how.languages) {
        const bool good =
            !language.code.empty() && language.code.size() <= kMaxNameBytes &&
            std::all_of(language.code.begin(), language.code.end(), [](char ch) {
                return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-';
            });
        if (!good || !codes.insert(language.code).second) {
            throw Error(place, "a language's code is not [a-z0-9-], at most 64 bytes, each once");
        }
        if (language.token >= vocabulary) {
            throw Error(place, "language " + language.code + " is token " +
                                   std::to_string(language.token) + ", not below the vocabulary, " +
                                   std::to_string(vocabulary));
        }
    }
    if (how.languages.empty() != (how.transcribe == 0) ||
        (how.languages.empty() && how.translate != 0)) {
        throw Error(place, "it has languages or tasks, but not both");
    }
}

void check_transcription(const Transcription& how, const Part& part, const std::string& place) {
    for (const std::uint32_t token : {how.start, how.end, how.transcribe, how.translate,
                                      how.no_timestamps, how.first_timestamp, how.no_speech}) {
        if (token >= part.vocabulary) {
            throw Error(place, "token " + std::to_string(token) + " is not below the vocabulary, " +
                                   std::to_string(part.vocabulary));
        }
    }
    for (const auto* tokens : {&how.suppressed, &how.suppressed_first}) {
        for (const std::uint32_t token : *tokens) {
            if (token >= part.vocabulary) {
                throw Error(place, "suppressed token " + std::to_string(token) +
                                       " is not below the vocabulary, " +
                                       std::to_string(part.vocabulary));
            }
        }
    }
    check_languages(how, part.vocabulary, place);
    if ((how.first_timestamp == 0) != (how.timestamp_ms == 0) ||
        how.timestamp_ms > kMostTimestampMs) {
        throw Error(place, "times of " + std::to_string(how.timestamp_ms) + " ms from token " +
                               std::to_string(how.first_timestamp) + " on are none");
    }
    // What is no number is neither.
    const bool probability = how.no_speech_probability > 0 && how.no_speech_probability <= 1;
    const bool logarithm =
        how.least_log_probability < 0 && how.least_log_probability >= kLeastLogarithm;
    const bool nothing = how.no_speech_probability == 0 && how.least_log_probability == 0;
    if (how.no_speech != 0 ? !probability || !logarithm : !nothing) {
        throw Error(place, "silence is no token with a probability and a logarithm of one");
    }
    if (how.latest_first != 0 &&
        (how.first_timestamp == 0 || how.latest_first >= part.vocabulary - how.first_timestamp)) {
        throw Error(place, "the latest first time, " + std::to_string(how.latest_first) +
                               ", is none of the vocabulary's");
    }
}

}  // namespace

void check_decoder(const Part& part, const std::string& place) {
    if (part.memory_rows == 0 || part.memory_rows > kMaxContext) {
        throw Error(place,
                    "memory of " + std::to_string(part.memory_rows) + " rows is not 1 to 2^24");
    }
    // Tokens' keys and values lie in the pages that the memory's take.
    if (part.context_length > part.memory_rows) {
        throw Error(place, "context length " + std::to_string(part.context_length) +
                               " is over the memory's " + std::to_string(part.memory_rows) +
                               " rows");
    }
    if (part.programs.size() != 2) {
        throw Error(place, std::to_string(part.programs.size()) +
                               " programs instead of 'prepare' and 'forward'");
    }
    if (program_of(part, "prepare", place).states != program_of(part, "forward", place).states) {
        throw Error(place, "'prepare' and 'forward' have other states");
    }
    if (part.transcription) {
        check_transcription(*part.transcription, part, place + ": transcription");
    }
}

void check_decoder_company(const Part& part, const Package& package, const std::string& place) {
    const FeatureShape rows{part.memory_rows, port_shape(part, Role::features).columns};
    const Part* encoder = nullptr;
    for (const Part& other : package.parts) {
        if (other.kind != PartKind::encoder || other.space != part.space) {
            continue;
        }
        if (encoder != nullptr) {
            throw Error(place, "space '" + part.space + "' has several encoders");
        }
        encoder = &other;
    }
    if (encoder == nullptr) {
        throw Error(place, "no encoder of space '" + part.space + "'");
    }
    if (const FeatureShape given = port_shape(*encoder, Role::hidden); given != rows) {
        throw Error(place, "takes " + std::to_string(rows.rows) + " rows of " +
                               std::to_string(rows.columns) + " columns, but part " +
                               encoder->name + " gives " + std::to_string(given.rows) + " of " +
                               std::to_string(given.columns));
    }
}

}  // namespace m4::firmware
