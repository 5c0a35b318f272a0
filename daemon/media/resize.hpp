// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "lib/recipe.hpp"
#include "pixels.hpp"

namespace m4::media {

/// What is kept of an image that was resized to `resized` pixels.
struct Cut {
    std::uint64_t resized_height = 0;
    std::uint64_t resized_width = 0;
    std::uint64_t top = 0;
    std::uint64_t left = 0;
    std::uint32_t height = 0;
    std::uint32_t width = 0;
};

/// Resizes across, then down, by the cubic kernel of a = -0.5 (Keys, 1981) or a triangle,
/// which is as much wider as the image becomes smaller; weights in 22 bits, results in 8 after
/// either pass. These are Pillow's numbers, and so are the results. Computes no pixel
/// that the cut leaves out. Interleaved, `channels` a pixel.
[[nodiscard]] std::vector<std::uint8_t> resize(const Pixels& pixels, const Cut& cut,
                                               std::uint32_t channels,
                                               firmware::ResizeFilter filter);

}  // namespace m4::media
