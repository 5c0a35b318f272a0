// SPDX-License-Identifier: MIT
#pragma once

#include <kiss_fftr.h>

#include <memory>
#include <span>
#include <vector>

#include "lib/recipe.hpp"
#include "mel_bank.hpp"

namespace m4::media {

/// Everything of an AudioRecipe behind the cutting of clips: frames to features. Of one
/// thread at a time.
class Spectrogram {
   public:
    explicit Spectrogram(const firmware::AudioRecipe& recipe);

    /// The least samples of a clip that make a frame.
    [[nodiscard]] std::uint32_t least_samples() const;
    /// `out`: the recipe's shape, whole. `clip` is changed where its mean is subtracted.
    void run(std::span<float> clip, std::span<float> out);

   private:
    [[nodiscard]] std::uint64_t frame_count(std::uint64_t samples) const;
    void cut_frame(std::span<const float> clip, std::uint64_t index);
    void transform();
    void take_logarithms(std::span<double> values) const;

    struct Free {
        void operator()(void* memory) const { kiss_fftr_free(memory); }
    };

    firmware::AudioRecipe recipe_;
    MelBank bank_;
    std::vector<float> window_;
    std::unique_ptr<std::remove_pointer_t<kiss_fftr_cfg>, Free> plan_;
    std::vector<float> frame_;  ///< fft_samples, zeros behind frame_samples
    std::vector<kiss_fft_cpx> lines_;
    std::vector<float> spectrum_;
    std::vector<double> cosines_;  ///< coefficients x mel_bins
};

}  // namespace m4::media
