// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>

#include "prepare.hpp"

/// One file a kind of recipe. The recipe is one that the verifier accepted; kind suits it.
namespace m4::media {

[[nodiscard]] Prepared prepare_image(const firmware::ImageRecipe& recipe, const Descriptor& media,
                                     std::span<const std::byte> file);

[[nodiscard]] Prepared prepare_sound(const firmware::AudioRecipe& recipe, const Descriptor& media,
                                     std::span<const std::byte> file);

[[nodiscard]] Prepared prepare_motion(const firmware::MotionRecipe& recipe, const Descriptor& media,
                                      std::span<const std::byte> file);

}  // namespace m4::media
