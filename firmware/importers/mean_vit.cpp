// SPDX-License-Identifier: MIT
#include <cmath>

#include "encoders.hpp"
#include "lib/error.hpp"
#include "recipes.hpp"
#include "transformer.hpp"

namespace m4::firmware {

namespace {

constexpr double kEps = 1e-5;

std::uint64_t root_of(std::uint64_t square, const SourceTensor& tensor) {
    const auto root = static_cast<std::uint64_t>(std::lround(std::sqrt(square)));
    if (root * root != square) {
        throw Error(tensor.place(), std::to_string(square) + " elements are no square of patches");
    }
    return root;
}

}  // namespace

void import_mean_vit(const EncoderSource& source, const ImportOptions& options,
                     ImageBuilder& builder) {
    const std::string kPatch = "patch_embed.proj";
    EncoderTensors tensors(source.checkpoint, options, builder);
    const auto shape_of = [&](const std::string& name, std::size_t rank) -> const SourceTensor& {
        const SourceTensor* tensor = source.checkpoint->find(name);
        if (tensor == nullptr || tensor->shape.size() != rank) {
            throw Error(source.checkpoint->place() + ": tensor '" + name + "'",
                        "is missing or of another rank");
        }
        return *tensor;
    };
    const SourceTensor& patch = shape_of(kPatch + ".weight", 2);
    const SourceTensor& places = shape_of("pos_embed", 3);
    const std::uint64_t width = patch.shape[0];
    const auto side = static_cast<std::uint32_t>(root_of(patch.shape[1], patch));
    const auto across = static_cast<std::uint32_t>(root_of(places.shape[1], places));
    const std::uint64_t labels = shape_of("classifier.weight", 2).shape[0];

    ProgramBuilder program("encode");
    Transformer transformer(tensors, program, static_cast<std::uint32_t>(width));
    auto x = program.features(side * across, side * across);
    x = program.unfold(x, {.height = side * across,
                           .width = side * across,
                           .kernel_h = side,
                           .kernel_w = side,
                           .stride_h = side,
                           .stride_w = side});
    x = transformer.linear(x, kPatch + ".weight", kPatch + ".bias", width, patch.shape[1]);
    x = program.add(x, tensors.table("pos_embed", places.shape));
    const auto block_name = [](std::uint32_t block) {
        return "encoder." + std::to_string(block) + ".";
    };
    for (std::uint32_t i = 0;
         source.checkpoint->find(block_name(i) + "attn.in_proj_weight") != nullptr; ++i) {
        const std::string at = block_name(i);
        const auto attended = transformer.attention(x, {.weight = at + "attn.in_proj_weight",
                                                        .bias = at + "attn.in_proj_bias",
                                                        .out_weight = at + "attn.out_proj.weight",
                                                        .out_bias = at + "attn.out_proj.bias"});
        x = transformer.norm(program.add(x, attended), at + "norm1.weight", at + "norm1.bias",
                             kEps);
        const auto fed =
            transformer.feed_forward(x, {.in_weight = at + "ffn.fc1.weight",
                                         .in_bias = at + "ffn.fc1.bias",
                                         .out_weight = at + "ffn.fc2.weight",
                                         .out_bias = at + "ffn.fc2.bias",
                                         .width = shape_of(at + "ffn.fc1.weight", 2).shape[0],
                                         .function = Activation::gelu_tanh});
        x = transformer.norm(program.add(x, fed), at + "norm2.weight", at + "norm2.bias", kEps);
    }
    x = program.mean_rows(transformer.norm(x, "norm.weight", "norm.bias", kEps));
    program.output(Role::embedding, x);
    program.output(Role::scores,
                   transformer.linear(x, "classifier.weight", "classifier.bias", labels, width));
    tensors.finish({.part_name = options.part_name.empty() ? "image" : options.part_name,
                    .architecture = "vit",
                    .recipe = mnist_recipe(side * across)},
                   program.finish());
}

}  // namespace m4::firmware
