// SPDX-License-Identifier: MIT
#include "synth_vit.hpp"

#include <string>

#include "encoders.hpp"
#include "lib/error.hpp"
#include "lib/limits.hpp"
#include "random_tensors.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint32_t kHeadWidth = 64;  // as import_vit takes it
constexpr std::uint32_t kColours = 3;

void check(const VitShape& shape) {
    const auto require = [](bool good, const char* text) {
        if (!good) {
            throw Error("synth", text);
        }
    };
    require(shape.dim != 0 && shape.layers != 0 && shape.ffn != 0, "every size must be at least 1");
    require(shape.dim % kHeadWidth == 0, "the width must be whole heads of 64");
    require(shape.dim <= M4_IMAGE_DIM_MAX / 4 && shape.ffn <= M4_IMAGE_DIM_MAX / 4,
            "a size is too large");
}

/// By timm's names.
std::shared_ptr<const Checkpoint> checkpoint_of(const VitShape& shape, std::uint64_t seed) {
    RandomTensors tensors(seed);
    const std::uint64_t dim = shape.dim;
    const std::uint64_t across = shape.side / shape.patch;
    const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        tensors.matrix(name + ".weight", {rows, columns});
        tensors.small(name + ".bias", {rows});
    };
    const auto norm = [&](const std::string& name) {
        tensors.norm(name + ".weight", dim);
        tensors.small(name + ".bias", {dim});
    };
    tensors.matrix("patch_embed.proj.weight", {dim, kColours, shape.patch, shape.patch});
    tensors.small("patch_embed.proj.bias", {dim});
    tensors.small("cls_token", {1, 1, dim});
    tensors.small("pos_embed", {1, across * across + 1, dim});
    for (std::uint32_t i = 0; i < shape.layers; ++i) {
        const std::string block = "blocks." + std::to_string(i) + ".";
        norm(block + "norm1");
        linear(block + "attn.qkv", 3 * dim, dim);
        linear(block + "attn.proj", dim, dim);
        norm(block + "norm2");
        linear(block + "mlp.fc1", shape.ffn, dim);
        linear(block + "mlp.fc2", dim, shape.ffn);
    }
    norm("norm");
    linear("head", shape.labels, dim);
    return tensors.checkpoint();
}

}  // namespace

std::optional<VitShape> synth_vit_shape(std::string_view name) {
    if (name == "vit-s") {
        return VitShape{.dim = 384, .layers = 12, .ffn = 1536};
    }
    if (name == "vit-b") {
        return VitShape{.dim = 768, .layers = 12, .ffn = 3072};
    }
    return std::nullopt;
}

std::string_view synth_vit_names() {
    return "vit-s, vit-b";
}

void synthesize_vit(const VitShape& shape, std::uint64_t seed, const ImportOptions& options,
                    ImageBuilder& builder) {
    check(shape);
    import_vit({.file = "synth", .checkpoint = checkpoint_of(shape, seed)}, options, builder);
}

}  // namespace m4::firmware
