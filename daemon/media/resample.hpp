// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace m4::media {

struct Rates {
    double from = 0;
    double to = 0;
};

/// Samples (of each channel) that so many become.
[[nodiscard]] std::uint64_t resampled(std::uint64_t samples, Rates rates);

/// Fills `out` with rows from sample `first` on, `channels` values each.
using Source = std::function<void(std::uint64_t first, std::span<float> out)>;
/// Takes rows from sample `first` on.
using Sink = std::function<void(std::uint64_t first, std::span<const float> rows)>;

/// Reads `samples` rows block by block and gives the first `wanted` of what they become
/// at the other rate, at most; reads no more of them than that takes. Sample 0 stays
/// where it is.
void resample(Rates rates, std::uint32_t channels, std::uint64_t samples, std::uint64_t wanted,
              const Source& source, const Sink& sink);

}  // namespace m4::media
