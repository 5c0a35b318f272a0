// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

/// How an encoder's features are made of what an app sends. Data of the image
/// (docs/programs.md, *Recipes*): whoever prepares inputs knows no architecture.
namespace m4::firmware {

enum class ResizeFilter : std::uint8_t { bicubic = 1, bilinear = 2 };

/// Pixels to planes, f32[channels height, width] an input: the short side resized
/// (antialiased), the centre cut out, each channel (p / 255 - mean) / std.
struct ImageRecipe {
    std::uint32_t channels = 3;    ///< 3: red, green, blue; 1: luma (BT.601)
    std::uint32_t short_side = 0;  ///< in pixels, before the cut; 0: no resizing
    std::uint32_t height = 0;
    std::uint32_t width = 0;
    std::vector<float> mean;  ///< one a channel
    std::vector<float> std;
    ResizeFilter filter = ResizeFilter::bicubic;
    bool stretched = false;  ///< the long side becomes short_side, too
};

enum class WindowKind : std::uint8_t {
    hann = 1,           ///< symmetric: 0 at both ends
    hann_periodic = 2,  ///< its first `frame_samples` of one longer
};

enum class MelScale : std::uint8_t {
    htk = 1,     ///< 1127 ln(1 + f / 700); triangles in mels
    slaney = 2,  ///< linear below 1 kHz; triangles in Hz, of equal area
};

enum class LogKind : std::uint8_t {
    natural = 1,  ///< ln(max(x, floor))
    /// (max(log10(max(x, floor)), largest - 8) + 4) / 4, largest of the input
    decibel_range = 2,
};

/// One channel of sound to a mel spectrogram, f32[mel_bins, frames] an input, or with
/// `frames_first` f32[frames, n]. In this order: resampled; cut into `clips` windows
/// of `clip_samples`, evenly spread; frames; spectra; mel bins; logarithms;
/// coefficients; cut or filled with zeros to `frames`; (x - mean) / std.
struct AudioRecipe {
    std::uint32_t sample_rate = 0;  ///< Hz
    std::uint32_t clips = 1;        ///< the mean of their results counts
    std::uint32_t clip_samples = 0;
    bool padded = true;  ///< zeros behind a recording shorter than a clip; else fewer frames
    bool subtract_mean = false;  ///< of the clip
    std::uint32_t frame_samples = 0;
    std::uint32_t frame_shift = 0;
    std::uint32_t fft_samples = 0;  ///< frames are filled with zeros to it
    bool centred = false;           ///< frame i is around sample i shift, mirrored at the ends
    bool subtract_frame_mean = false;
    float pre_emphasis = 0;  ///< x[i] - p x[i - 1], of a frame's first (1 - p) x[0]; 0: none
    WindowKind window = WindowKind::hann;
    std::uint32_t power = 2;  ///< 1: magnitudes, 2: their squares
    std::uint32_t mel_bins = 0;
    MelScale mel_scale = MelScale::htk;
    float low_hz = 0;
    float high_hz = 0;
    LogKind log = LogKind::natural;
    float log_floor = 0;
    std::uint32_t coefficients = 0;  ///< first ones of an orthonormal DCT-II; 0: bins as they are
    std::uint32_t frames = 0;
    bool frames_first = false;
    float mean = 0;
    float std = 1;

    [[nodiscard]] std::uint32_t columns() const {
        return coefficients != 0 ? coefficients : mel_bins;
    }
};

/// Samples of inertial sensors, f32[samples, channels] an input, or with
/// `channels_first` f32[channels, samples]: resampled to `rate_hz`, cut into windows,
/// each channel multiplied by its `scale`.
struct MotionRecipe {
    std::uint32_t channels = 0;
    std::uint32_t samples = 0;  ///< of a window
    float rate_hz = 0;
    bool channels_first = false;
    std::vector<float> scale = {};  ///< one a channel; empty: all 1
};

/// Tokens of an encoder of text: BOS, the text's own, EOS, the last one in the place
/// of what is too long; then `pad_id`. EOS stands for the text (picked_rows).
struct TextRecipe {
    std::uint32_t pad_id = 0;
};

/// monostate: features are the caller's own.
using Recipe = std::variant<std::monostate, ImageRecipe, AudioRecipe, MotionRecipe, TextRecipe>;

struct FeatureShape {
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;
    bool operator==(const FeatureShape&) const = default;
};

/// What a recipe makes of one input, or of one clip or window of it. Of text, and of
/// none: {0, 0}. Sound for recipes that the verifier accepted.
[[nodiscard]] FeatureShape shape_of(const Recipe& recipe);

}  // namespace m4::firmware
