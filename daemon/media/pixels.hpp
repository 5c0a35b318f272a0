// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "prepare.hpp"

namespace m4::media {

/// An image in a file, checked, as rows of red, green and blue or of luma.
class Pixels {
   public:
    /// `channels`: 3, or 1 for luma, as ITU-R 601 weighs it and Pillow's "L" rounds it.
    Pixels(const Descriptor& media, std::span<const std::byte> file, std::uint32_t channels);

    [[nodiscard]] std::uint32_t width() const { return media_.width; }
    [[nodiscard]] std::uint32_t height() const { return media_.height; }
    /// Pixels from column `first` on, as many as fit in `out`, interleaved.
    void read(std::uint32_t row, std::uint32_t first, std::span<std::uint8_t> out) const;

   private:
    Descriptor media_;
    std::uint32_t channels_;
    std::span<const std::byte> plane_;
    std::span<const std::byte> chroma_;
};

}  // namespace m4::media
