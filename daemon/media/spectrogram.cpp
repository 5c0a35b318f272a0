// SPDX-License-Identifier: MIT
#include "spectrogram.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <numbers>
#include <numeric>

namespace m4::media {

namespace {

using firmware::AudioRecipe;
using firmware::LogKind;
using firmware::WindowKind;

constexpr double kRange = 8;  // decades below the largest, of decibel_range

std::vector<float> make_window(const AudioRecipe& recipe) {
    const std::uint32_t count = recipe.frame_samples;
    const double period = recipe.window == WindowKind::hann ? count - 1 : count;
    std::vector<float> window(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        window[i] = static_cast<float>(0.5 - 0.5 * std::cos(2 * std::numbers::pi * i / period));
    }
    return window;
}

std::vector<double> make_cosines(const AudioRecipe& recipe) {
    const double bins = recipe.mel_bins;
    std::vector<double> cosines;
    cosines.reserve(std::size_t{recipe.coefficients} * recipe.mel_bins);
    for (std::uint32_t k = 0; k < recipe.coefficients; ++k) {
        const double scale = std::sqrt((k == 0 ? 1 : 2) / bins);
        for (std::uint32_t i = 0; i < recipe.mel_bins; ++i) {
            cosines.push_back(scale * std::cos(std::numbers::pi / bins * (i + 0.5) * k));
        }
    }
    return cosines;
}

/// A place beyond either end, mirrored at the last sample there.
std::size_t mirrored(std::int64_t at, std::int64_t count) {
    at = at < 0 ? -at : at;
    at = at >= count ? 2 * (count - 1) - at : at;
    return static_cast<std::size_t>(std::clamp<std::int64_t>(at, 0, count - 1));
}

}  // namespace

Spectrogram::Spectrogram(const AudioRecipe& recipe)
    : recipe_(recipe),
      bank_(recipe),
      window_(make_window(recipe)),
      plan_(kiss_fftr_alloc(static_cast<int>(recipe.fft_samples), 0, nullptr, nullptr)),
      frame_(recipe.fft_samples),
      lines_(recipe.fft_samples / 2 + 1),
      spectrum_(recipe.fft_samples / 2 + 1),
      cosines_(make_cosines(recipe)) {
    if (plan_ == nullptr) {
        throw std::bad_alloc();
    }
}

std::uint32_t Spectrogram::least_samples() const {
    // Mirroring takes samples of the clip itself.
    return recipe_.centred ? recipe_.fft_samples / 2 + 1 : recipe_.frame_samples;
}

std::uint64_t Spectrogram::frame_count(std::uint64_t samples) const {
    const std::uint64_t behind = recipe_.centred ? samples : samples - recipe_.frame_samples;
    return std::min<std::uint64_t>(1 + behind / recipe_.frame_shift, recipe_.frames);
}

void Spectrogram::cut_frame(std::span<const float> clip, std::uint64_t index) {
    const std::size_t count = recipe_.frame_samples;
    const auto frame = std::span(frame_).first(count);
    const auto start = static_cast<std::int64_t>(index * recipe_.frame_shift);
    if (recipe_.centred) {
        const std::int64_t first = start - static_cast<std::int64_t>(count / 2);
        for (std::size_t i = 0; i < count; ++i) {
            frame[i] = clip[mirrored(first + static_cast<std::int64_t>(i),
                                     static_cast<std::int64_t>(clip.size()))];
        }
    } else {
        std::copy_n(clip.begin() + start, count, frame.begin());
    }
    if (recipe_.subtract_frame_mean) {
        const double sum = std::accumulate(frame.begin(), frame.end(), 0.0);
        const auto mean = static_cast<float>(sum / static_cast<double>(count));
        for (float& sample : frame) {
            sample -= mean;
        }
    }
    if (recipe_.pre_emphasis != 0) {
        for (std::size_t i = count - 1; i > 0; --i) {
            frame[i] -= recipe_.pre_emphasis * frame[i - 1];
        }
        frame[0] -= recipe_.pre_emphasis * frame[0];
    }
    for (std::size_t i = 0; i < count; ++i) {
        frame[i] *= window_[i];
    }
}

void Spectrogram::transform() {
    kiss_fftr(plan_.get(), frame_.data(), lines_.data());
    for (std::size_t i = 0; i < lines_.size(); ++i) {
        const float power = lines_[i].r * lines_[i].r + lines_[i].i * lines_[i].i;
        spectrum_[i] = recipe_.power == 2 ? power : std::sqrt(power);
    }
}

void Spectrogram::take_logarithms(std::span<double> values) const {
    const double floor = recipe_.log_floor;
    if (recipe_.log == LogKind::natural) {
        for (double& value : values) {
            value = std::log(std::max(value, floor));
        }
        return;
    }
    double largest = -HUGE_VAL;
    for (double& value : values) {
        value = std::log10(std::max(value, floor));
        largest = std::max(largest, value);
    }
    for (double& value : values) {
        value = (std::max(value, largest - kRange) + 4) / 4;
    }
}

void Spectrogram::run(std::span<float> clip, std::span<float> out) {
    if (recipe_.subtract_mean) {
        const double sum = std::accumulate(clip.begin(), clip.end(), 0.0);
        const auto mean = static_cast<float>(sum / static_cast<double>(clip.size()));
        for (float& sample : clip) {
            sample -= mean;
        }
    }
    const std::size_t bins = recipe_.mel_bins;
    const std::size_t frames = frame_count(clip.size());
    std::vector<double> values(frames * bins);
    for (std::size_t frame = 0; frame < frames; ++frame) {
        cut_frame(clip, frame);
        transform();
        bank_.apply(spectrum_, std::span(values).subspan(frame * bins, bins));
    }
    take_logarithms(values);
    const std::size_t columns = recipe_.columns();
    const auto feature = [&](std::size_t frame, std::size_t column) {
        const double* of_frame = values.data() + frame * bins;
        return recipe_.coefficients == 0 ? of_frame[column]
                                         : std::inner_product(of_frame, of_frame + bins,
                                                              cosines_.data() + column * bins, 0.0);
    };
    for (std::size_t frame = 0; frame < recipe_.frames; ++frame) {
        for (std::size_t column = 0; column < columns; ++column) {
            const double value = frame < frames ? feature(frame, column) : 0;
            out[recipe_.frames_first ? frame * columns + column : column * recipe_.frames + frame] =
                static_cast<float>((value - static_cast<double>(recipe_.mean)) /
                                   static_cast<double>(recipe_.std));
        }
    }
}

}  // namespace m4::media
