// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "plain_transformer.hpp"

/// KWT with its front end: written as a TensorFlow Lite graph, and computed plainly.
namespace m4::test {

struct KwtSizes {
    std::size_t samples = 800;
    std::size_t shift = 40;
    std::size_t pieces = 3;  ///< of a shift, in a frame
    std::size_t bins = 61;   ///< of the spectrum, those that the filter bank reads
    std::size_t mel_bins = 12;
    std::size_t coefficients = 8;
    std::size_t width = 16;
    std::size_t inner = 24;
    std::size_t blocks = 2;
    std::size_t labels = 12;

    [[nodiscard]] std::size_t frame() const { return pieces * shift; }
    [[nodiscard]] std::size_t frames() const { return samples / shift - pieces + 1; }
};
/// The published model's.
[[nodiscard]] KwtSizes published_kwt();

/// Random weights, under names like "blocks.0.query.weight".
[[nodiscard]] PlainTensors random_kwt(const KwtSizes& sizes, std::uint32_t seed);

/// What can be made wrong in a graph.
struct KwtFaults {
    bool tanh_left_out = false;
    bool fused_activation = false;
    bool other_window = false;
    bool other_scale = false;
    bool swapped_values = false;  ///< attention multiplies keys instead
};
[[nodiscard]] std::string kwt_tflite(const KwtSizes& sizes, const PlainTensors& tensors,
                                     const KwtFaults& faults = {});

/// The front end's result, [frames, coefficients], as the graph has it: the first
/// coefficient longer by sqrt(2) than a recipe's.
[[nodiscard]] Rows kwt_front_end(const KwtSizes& sizes, const std::vector<float>& samples);
/// As a recipe says them.
[[nodiscard]] std::vector<float> kwt_features(const KwtSizes& sizes,
                                              const std::vector<float>& samples);
[[nodiscard]] std::vector<float> kwt_scores(const KwtSizes& sizes, const PlainTensors& tensors,
                                            const Rows& front_end);

}  // namespace m4::test
