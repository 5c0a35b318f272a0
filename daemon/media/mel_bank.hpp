// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/recipe.hpp"

namespace m4::media {

/// Overlapping triangles over a spectrum, at even distances on a mel scale.
class MelBank {
   public:
    explicit MelBank(const firmware::AudioRecipe& recipe);

    /// `spectrum`: fft_samples / 2 + 1 numbers; `out`: mel_bins.
    void apply(std::span<const float> spectrum, std::span<double> out) const;

   private:
    struct Triangle {
        std::uint32_t first = 0;
        std::vector<double> weights;
    };
    std::vector<Triangle> triangles_;
};

}  // namespace m4::media
