// SPDX-License-Identifier: MIT
#include "mel_bank.hpp"

#include <algorithm>
#include <cmath>

namespace m4::media {

namespace {

using firmware::MelScale;

// Slaney's Auditory Toolbox (1998): 15 mels up to 1 kHz, then 27 a factor of 6.4.
constexpr double kLinearHz = 1000;
constexpr double kLinearMels = 15;
constexpr double kStepsOfFactor = 27;
const double kFactor = std::log(6.4);

double to_mel(MelScale scale, double hz) {
    if (scale == MelScale::htk) {
        return 1127 * std::log(1 + hz / 700);
    }
    return hz < kLinearHz ? hz * kLinearMels / kLinearHz
                          : kLinearMels + std::log(hz / kLinearHz) * kStepsOfFactor / kFactor;
}

double to_hz(MelScale scale, double mel) {
    if (scale == MelScale::htk) {
        return 700 * (std::exp(mel / 1127) - 1);
    }
    return mel < kLinearMels ? mel * kLinearHz / kLinearMels
                             : kLinearHz * std::exp((mel - kLinearMels) * kFactor / kStepsOfFactor);
}

}  // namespace

MelBank::MelBank(const firmware::AudioRecipe& recipe) : triangles_(recipe.mel_bins) {
    const MelScale scale = recipe.mel_scale;
    const bool in_hz = scale == MelScale::slaney;
    const double low = to_mel(scale, recipe.low_hz);
    const double step = (to_mel(scale, recipe.high_hz) - low) / (recipe.mel_bins + 1);
    const auto corner = [&](std::uint32_t i) {
        const double mel = low + i * step;
        return in_hz ? to_hz(scale, mel) : mel;
    };
    // Where the spectrum's lines lie on the axis that the triangles are straight on.
    std::vector<double> lines(recipe.fft_samples / 2 + 1);
    for (std::size_t i = 0; i < lines.size(); ++i) {
        const double hz =
            static_cast<double>(i) * recipe.sample_rate / static_cast<double>(recipe.fft_samples);
        lines[i] = in_hz ? hz : to_mel(scale, hz);
    }
    for (std::uint32_t bin = 0; bin < recipe.mel_bins; ++bin) {
        const double left = corner(bin);
        const double center = corner(bin + 1);
        const double right = corner(bin + 2);
        const double height = in_hz ? 2 / (right - left) : 1;
        const auto begin = std::upper_bound(lines.begin(), lines.end(), left);
        const auto end = std::lower_bound(begin, lines.end(), right);
        triangles_[bin].first = static_cast<std::uint32_t>(begin - lines.begin());
        for (auto line = begin; line != end; ++line) {
            const double rising = (*line - left) / (center - left);
            const double falling = (right - *line) / (right - center);
            triangles_[bin].weights.push_back(height * std::min(rising, falling));
        }
    }
}

void MelBank::apply(std::span<const float> spectrum, std::span<double> out) const {
    for (std::size_t bin = 0; bin < triangles_.size(); ++bin) {
        const Triangle& triangle = triangles_[bin];
        double sum = 0;
        for (std::size_t i = 0; i < triangle.weights.size(); ++i) {
            sum += triangle.weights[i] * static_cast<double>(spectrum[triangle.first + i]);
        }
        out[bin] = sum;
    }
}

}  // namespace m4::media
