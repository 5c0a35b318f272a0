// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/program.hpp"

namespace m4::sched {

/// A piece of a window, from the window's begin on, and its tokens without times.
struct Segment {
    std::uint64_t start_ms = 0;
    std::uint64_t end_ms = 0;
    std::vector<std::uint32_t> ids;
    bool operator==(const Segment&) const = default;
};

struct Segments {
    std::vector<Segment> all;
    std::uint64_t advance_ms = 0;  ///< where the next window begins
};

/// Tokens of a window, of `sound_ms` of sound, as its times cut them; `how` null, or
/// without times: one segment. The next window begins where the last segment that is
/// whole ends, or behind this one, `window_ms` on.
[[nodiscard]] Segments cut_segments(std::span<const std::uint32_t> ids,
                                    const firmware::Transcription* how, std::uint64_t sound_ms,
                                    std::uint64_t window_ms);

}  // namespace m4::sched
