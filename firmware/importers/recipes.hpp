// SPDX-License-Identifier: MIT
// Recipes with published numbers, by what they were published with.
#pragma once

#include <cstdint>

#include "lib/recipe.hpp"

namespace m4::firmware {

/// CLIP (Radford et al., arXiv 2103.00020), and ImageBind after it: an RGB square of
/// `side` pixels.
[[nodiscard]] ImageRecipe clip_image_recipe(std::uint32_t side);

/// ViT (Dosovitskiy et al., arXiv 2010.11929) as timm evaluates it: an RGB square, cut out
/// of nine tenths; pixels to -1 .. 1.
[[nodiscard]] ImageRecipe vit_image_recipe(std::uint32_t side);

/// DeiT (Touvron et al., arXiv 2012.12877): an RGB square, cut out of seven eighths, by the
/// statistics of ImageNet.
[[nodiscard]] ImageRecipe deit_image_recipe(std::uint32_t side);

/// Handwritten digits by the statistics of MNIST's training set: a gray square.
[[nodiscard]] ImageRecipe mnist_recipe(std::uint32_t side);

/// ImageBind (Girdhar et al., CVPR 2023): three clips of 2 s, Kaldi's filter bank.
[[nodiscard]] AudioRecipe imagebind_audio_recipe();

/// Whisper (Radford et al., arXiv 2212.04356): log-mel `bins` by `frames` of 10 ms.
[[nodiscard]] AudioRecipe whisper_recipe(std::uint32_t bins, std::uint32_t frames);

/// ImageBind: 5 s of an accelerometer and a gyroscope.
[[nodiscard]] MotionRecipe imagebind_motion_recipe();

/// LIMU-BERT (Xu et al., SenSys 2021): 6 s of an accelerometer, in units of 9.8 m/s^2,
/// and a gyroscope.
[[nodiscard]] MotionRecipe limu_bert_recipe(std::uint32_t samples, std::uint32_t channels);

}  // namespace m4::firmware
