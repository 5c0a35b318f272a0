// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace m4::firmware {

class ImageBuilder;
struct ImportOptions;

/// A vision transformer by its sizes: square patches of square pictures of three
/// colours, a class token, heads of 64, a classifier.
struct VitShape {
    std::uint32_t dim = 0;
    std::uint32_t layers = 0;
    std::uint32_t ffn = 0;
    std::uint32_t side = 224;
    std::uint32_t patch = 16;
    std::uint32_t labels = 1000;
};

/// That of "vit-s" or "vit-b" (ViT-S/16, Touvron et al., arXiv 2012.12877; ViT-B/16,
/// Dosovitskiy et al., arXiv 2010.11929). None: no such name.
[[nodiscard]] std::optional<VitShape> synth_vit_shape(std::string_view name);
/// "vit-s, vit-b"
[[nodiscard]] std::string_view synth_vit_names();

/// An encoder of pictures of random weights, for its size and speed. The same shape
/// and seed give the same image everywhere. Throws Error where the shape is none.
void synthesize_vit(const VitShape& shape, std::uint64_t seed, const ImportOptions& options,
                    ImageBuilder& builder);

}  // namespace m4::firmware
