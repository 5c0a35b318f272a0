// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint_writer.hpp"

/// Checkpoints of encoders as small as they may be, every value one half.
namespace m4::test {

using Tensors = std::map<std::string, SafeTensor>;

/// Tensors of halves, by name and shape.
class TensorWriter {
   public:
    void add(const std::string& name, const std::vector<std::uint64_t>& shape) {
        std::size_t count = 1;
        for (const std::uint64_t side : shape) {
            count *= side;
        }
        tensors[name] = {"F32", shape, store_values(std::vector<float>(count, 0.5F), Stored::f32)};
    }
    void linear(const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        add(name + ".weight", {rows, columns});
        add(name + ".bias", {rows});
    }
    void norm(const std::string& name, std::uint64_t width) {
        add(name + ".weight", {width});
        add(name + ".bias", {width});
    }
    Tensors tensors;
};

/// A ViT of one block, 8 wide, for images of 6 x 6, by Hugging Face's names; with the
/// root "deit." one with a distillation token.
[[nodiscard]] Tensors small_vit(const std::string& root = "vit.");

/// openai's CLIP without a block, 8 wide: texts of 4 tokens of 515, images of 6 x 6.
[[nodiscard]] Tensors small_clip();

}  // namespace m4::test
