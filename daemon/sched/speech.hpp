// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sched/parts.hpp"
#include "sched/request.hpp"

namespace m4::sched {

/// What an app asks to be written down, before anything was checked against the image.
struct TranscribeInputs {
    std::string part;  ///< a decoder or its encoder; empty: the first decoder
    MediaInput input;
    std::string language;  ///< a code; empty: by ear
    bool translate = false;
    bool timestamps = false;
    std::uint32_t beam = 1;
    std::uint32_t max_tokens = 0;
    std::vector<std::uint32_t> prompt;
};

/// Checks all of it and prepares the first window, or all where features came. `keep`
/// holds `data`. Throws Refusal.
[[nodiscard]] Transcribe prepare_transcribe(const Parts& parts, const TranscribeInputs& inputs,
                                            std::span<const std::byte> data,
                                            std::shared_ptr<const void> keep);

}  // namespace m4::sched
