// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "encoders.hpp"
#include "json_file.hpp"
#include "lib/program.hpp"

/// What Whisper's encoder and its decoder are imported with.
namespace m4::firmware {

/// A file that goes with a checkpoint: its own, STEM.name, or its folder's.
[[nodiscard]] std::filesystem::path beside(const std::filesystem::path& file,
                                           const std::string& name);

/// A size of the configuration, 1 to 2^20. Throws Error where it is none.
[[nodiscard]] std::uint32_t whisper_size(const JsonObject& config, const std::string& key);

[[nodiscard]] bool has_whisper_decoder(const Checkpoint& checkpoint);

/// Adds the part ENCODER-text, which takes the hidden states of part `encoder`.
void import_whisper_decoder(const EncoderSource& source, const JsonObject& config,
                            const ImportOptions& options, const std::string& encoder,
                            ImageBuilder& builder);

/// How the decoder is asked: by generation_config.json beside `file`, else by the
/// configuration itself. Nothing where neither names a first and a last token.
[[nodiscard]] std::optional<Transcription> whisper_transcription(const std::filesystem::path& file,
                                                                 const JsonObject& config,
                                                                 std::uint32_t vocabulary);

}  // namespace m4::firmware
