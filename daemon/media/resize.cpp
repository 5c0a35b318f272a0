// SPDX-License-Identifier: MIT
#include "resize.hpp"

#include <algorithm>
#include <cmath>

namespace m4::media {

namespace {

constexpr int kWeightBits = 22;

double cubic(double x) {
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1) {
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    }
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

double triangle(double x) {
    return std::max(0.0, 1 - std::abs(x));
}

/// A kernel, and how far from its middle it reaches.
struct Kernel {
    double (*weight)(double) = nullptr;
    double support = 0;
};

Kernel kernel_of(firmware::ResizeFilter filter) {
    return filter == firmware::ResizeFilter::bilinear ? Kernel{triangle, 1} : Kernel{cubic, 2};
}

/// Of one resized pixel: the pixels it is made of, along one axis.
struct Taps {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    std::size_t weights = 0;  ///< where they begin in Axis::weights
};

struct Axis {
    std::vector<Taps> taps;
    std::vector<std::int32_t> weights;

    [[nodiscard]] std::uint32_t begin() const { return taps.front().first; }
    [[nodiscard]] std::uint32_t end() const { return taps.back().first + taps.back().count; }
};

/// Pixels [first, first + count) of `out` that are made of `in`.
Axis make_axis(const Kernel& kernel, std::uint32_t in, std::uint64_t out, std::uint64_t first,
               std::uint32_t count) {
    Axis axis;
    axis.taps.reserve(count);
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double width = std::max(scale, 1.0);
    const double support = kernel.support * width;
    std::vector<double> weights;
    for (std::uint64_t i = first; i < first + count; ++i) {
        const double center = (static_cast<double>(i) + 0.5) * scale;
        const auto low = static_cast<std::int64_t>(center - support + 0.5);
        const auto high = static_cast<std::int64_t>(center + support + 0.5);
        const std::int64_t from = std::max<std::int64_t>(low, 0);
        const std::int64_t to = std::min<std::int64_t>(high, in);
        weights.clear();
        double sum = 0;
        for (std::int64_t x = from; x < to; ++x) {
            weights.push_back(
                kernel.weight((static_cast<double>(x) - center + 0.5) * (1.0 / width)));
            sum += weights.back();
        }
        axis.taps.push_back({static_cast<std::uint32_t>(from),
                             static_cast<std::uint32_t>(to - from), axis.weights.size()});
        for (const double weight : weights) {
            const double scaled = (sum != 0 ? weight / sum : weight) * (1 << kWeightBits);
            axis.weights.push_back(static_cast<std::int32_t>(scaled + (scaled < 0 ? -0.5 : 0.5)));
        }
    }
    return axis;
}

/// The sum over taps, `step` bytes apart, to 8 bits.
std::uint8_t apply(const Axis& axis, const Taps& taps, const std::uint8_t* from, std::size_t step) {
    std::int32_t sum = 1 << (kWeightBits - 1);
    const std::int32_t* weights = axis.weights.data() + taps.weights;
    for (std::uint32_t i = 0; i < taps.count; ++i) {
        sum += from[i * step] * weights[i];
    }
    return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

}  // namespace

std::vector<std::uint8_t> resize(const Pixels& pixels, const Cut& cut, std::uint32_t channels,
                                 firmware::ResizeFilter filter) {
    const Kernel kernel = kernel_of(filter);
    const Axis across = make_axis(kernel, pixels.width(), cut.resized_width, cut.left, cut.width);
    const Axis down = make_axis(kernel, pixels.height(), cut.resized_height, cut.top, cut.height);
    const std::size_t row_bytes = std::size_t{cut.width} * channels;
    std::vector<std::uint8_t> line(std::size_t{across.end() - across.begin()} * channels);
    std::vector<std::uint8_t> narrow((down.end() - down.begin()) * row_bytes);
    for (std::uint32_t row = down.begin(); row < down.end(); ++row) {
        pixels.read(row, across.begin(), line);
        std::uint8_t* out = narrow.data() + (row - down.begin()) * row_bytes;
        for (const Taps& taps : across.taps) {
            const std::uint8_t* from =
                line.data() + std::size_t{taps.first - across.begin()} * channels;
            for (std::uint32_t channel = 0; channel < channels; ++channel) {
                *out++ = apply(across, taps, from + channel, channels);
            }
        }
    }
    std::vector<std::uint8_t> result(cut.height * row_bytes);
    std::uint8_t* out = result.data();
    for (const Taps& taps : down.taps) {
        const std::uint8_t* from = narrow.data() + (taps.first - down.begin()) * row_bytes;
        for (std::size_t i = 0; i < row_bytes; ++i) {
            *out++ = apply(down, taps, from + i, row_bytes);
        }
    }
    return result;
}

}  // namespace m4::media
