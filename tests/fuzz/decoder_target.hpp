// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace m4::fuzz {

/// What the first byte says of the others, modulo 4.
enum class DecoderInput : std::uint8_t { image, audio, features, motion };
[[nodiscard]] inline DecoderInput decoder_input(std::uint8_t first) {
    return static_cast<DecoderInput>(first % 4);
}

/// Decodes a file in memory. Aborts where that ends by anything but an input whose
/// description and bytes agree, or an Error of one sentence that names its place. Returns
/// whether it was accepted.
bool check_decoder(std::span<const std::uint8_t> bytes);

/// A small file of each kind, which is accepted.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> decoder_seeds();

/// Makes what says to be a picture small, so that a case takes no time for pixels, and
/// the sums of a PNG right, which no mutation does.
void tame_image(std::span<std::uint8_t> file);

}  // namespace m4::fuzz
