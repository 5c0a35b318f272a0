// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <vector>

#include "prepare.hpp"

namespace m4::media {

/// A recording in a file, checked; its channels averaged.
class Sound {
   public:
    Sound(const Descriptor& media, std::span<const std::byte> file);

    [[nodiscard]] std::uint64_t samples() const { return media_.samples; }
    [[nodiscard]] double rate() const { return media_.rate_hz; }
    /// Samples from `first` on. Throws MediaError at one that is not finite.
    void read(std::uint64_t first, std::span<float> out) const;

   private:
    Descriptor media_;
    std::span<const std::byte> bytes_;
};

/// The recipe's clips of a recording, at the recipe's rate: all clip_samples long, or
/// where the recording is shorter and not `padded`, all as long as that.
[[nodiscard]] std::vector<std::vector<float>> cut_clips(const firmware::AudioRecipe& recipe,
                                                        const Sound& sound);

}  // namespace m4::media
