// SPDX-License-Identifier: MIT
#include <algorithm>
#include <string>
#include <vector>

#include "bounds.hpp"
#include "resample.hpp"
#include "senses.hpp"

namespace m4::media {

namespace {

/// Rows of samples in a file, checked.
class Motion {
   public:
    Motion(const firmware::MotionRecipe& recipe, const Descriptor& media,
           std::span<const std::byte> file)
        : channels_(recipe.channels), samples_(media.samples) {
        if (media.channels != recipe.channels) {
            throw MediaError("channels " + std::to_string(media.channels) +
                             " are not the recipe's " + std::to_string(recipe.channels));
        }
        bytes_ = bytes_at(file, "offset", media.offset,
                          product(media.samples, std::uint64_t{channels_} * sizeof(float)));
    }

    [[nodiscard]] std::uint64_t samples() const { return samples_; }

    void read(std::uint64_t first, std::span<float> out) const {
        const std::byte* from = bytes_.data() + first * channels_ * sizeof(float);
        for (std::size_t i = 0; i < out.size(); ++i, from += sizeof(float)) {
            out[i] = finite(float_at(from), first + i / channels_, i % channels_);
        }
    }

   private:
    std::uint32_t channels_;
    std::uint64_t samples_;
    std::span<const std::byte> bytes_;
};

/// A straight line through each channel's first and last sample. A resampler takes
/// what is beyond the ends for zero; gravity is not, so lines are taken off before and
/// put back behind it.
class Lines {
   public:
    Lines(const Motion& motion, std::uint32_t channels)
        : first_(channels), last_(channels), length_(motion.samples() - 1) {
        motion.read(0, first_);
        motion.read(motion.samples() - 1, last_);
    }

    /// Adds `sign` times the lines to rows that begin at `at`, `step` apart, in samples.
    void add(double sign, double at, double step, std::span<float> rows) const {
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const std::size_t channel = i % first_.size();
            const double place = at + step * static_cast<double>(i / first_.size());
            const double share = length_ == 0 ? 0 : place / static_cast<double>(length_);
            const double value = static_cast<double>(first_[channel]) * (1 - share) +
                                 static_cast<double>(last_[channel]) * share;
            rows[i] = static_cast<float>(static_cast<double>(rows[i]) + sign * value);
        }
    }

   private:
    std::vector<float> first_;
    std::vector<float> last_;
    std::uint64_t length_;
};

std::vector<float> resampled_rows(const Motion& motion, Rates rates, std::uint32_t channels,
                                  std::uint64_t wanted) {
    const Lines lines(motion, channels);
    std::vector<float> rows(wanted * channels);
    resample(
        rates, channels, motion.samples(), wanted,
        [&](std::uint64_t first, std::span<float> out) {
            motion.read(first, out);
            lines.add(-1, static_cast<double>(first), 1, out);
        },
        [&](std::uint64_t first, std::span<const float> in) {
            std::copy(in.begin(), in.end(),
                      rows.begin() + static_cast<std::ptrdiff_t>(first * channels));
        });
    lines.add(1, 0, rates.from / rates.to, rows);
    return rows;
}

}  // namespace

Prepared prepare_motion(const firmware::MotionRecipe& recipe, const Descriptor& media,
                        std::span<const std::byte> file) {
    const std::uint32_t channels = recipe.channels;
    Rates rates{recipe.rate_hz, recipe.rate_hz};
    if (media.rate_hz != 0) {
        check_rate(media.rate_hz);
        rates.from = media.rate_hz;
    }
    const Motion motion(recipe, media, file);
    const bool same = rates.from == rates.to;
    const std::uint64_t samples = same ? media.samples : resampled(media.samples, rates);
    const std::uint64_t windows = std::min(samples / recipe.samples, kMaxWindows);
    if (windows == 0) {
        throw MediaError("samples " + std::to_string(media.samples) + " at " +
                         number_text(rates.from) + " Hz are less than a window, " +
                         std::to_string(recipe.samples) + " at " + number_text(rates.to) + " Hz");
    }
    check_features(windows, {recipe.samples, channels});
    const std::uint64_t wanted = windows * recipe.samples;
    std::vector<float> rows;
    if (same) {
        rows.resize(wanted * channels);
        motion.read(0, rows);
    } else {
        rows = resampled_rows(motion, rates, channels, wanted);
    }
    Prepared made;
    made.items = static_cast<std::uint32_t>(windows);
    made.features.resize(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::size_t channel = i % channels;
        const std::size_t window = i / channels / recipe.samples;
        const std::size_t sample = i / channels % recipe.samples;
        const std::size_t inner =
            recipe.channels_first ? channel * recipe.samples + sample : sample * channels + channel;
        made.features[window * recipe.samples * channels + inner] =
            rows[i] * (recipe.scale.empty() ? 1 : recipe.scale[channel]);
    }
    return made;
}

}  // namespace m4::media
