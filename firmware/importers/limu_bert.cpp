// SPDX-License-Identifier: MIT
// LIMU-BERT's encoder. One block is applied several times; the norm of the
// embedding is applied before and after the positions are added; what a block
// adds to is attention's result.
#include <array>
#include <cmath>

#include "encoders.hpp"
#include "recipes.hpp"
#include "transformer.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint32_t kSamples = 120;
constexpr std::uint32_t kChannels = 6;
constexpr std::uint32_t kHeads = 4;
constexpr std::uint32_t kBlocks = 4;
constexpr double kEps = 1e-12;

}  // namespace

void import_limu_bert(const EncoderSource& source, const ImportOptions& options,
                      ImageBuilder& builder) {
    const std::string root = "transformer.";
    EncoderTensors tensors(source.checkpoint, options, builder);
    const auto rows_of = [&](const std::string& name) -> std::uint64_t {
        const SourceTensor* tensor = source.checkpoint->find(root + name);
        return tensor == nullptr || tensor->shape.empty() ? 0 : tensor->shape[0];
    };
    // Where one is missing, the tensors say so below.
    const auto width = static_cast<std::uint32_t>(rows_of("embed.lin.weight"));
    const std::uint64_t inner_width = rows_of("pwff.fc1.weight");

    // All norms and matrices once, for the block is one.
    ProgramBuilder program("encode");
    const auto matrix = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        return std::array{tensors.matrix(root + name + ".weight", {rows, columns}),
                          tensors.vector(root + name + ".bias", rows)};
    };
    const auto norm = [&](const std::string& name) {
        return std::array{tensors.vector(root + name + ".gamma", width),
                          tensors.vector(root + name + ".beta", width)};
    };
    const auto lin = matrix("embed.lin", width, kChannels);
    const auto embed_norm = norm("embed.norm");
    const auto places = tensors.table(root + "embed.pos_embed.weight", {kSamples, width});
    const auto q = matrix("attn.proj_q", width, width);
    const auto k = matrix("attn.proj_k", width, width);
    const auto v = matrix("attn.proj_v", width, width);
    const auto out = matrix("proj", width, width);
    const auto first = matrix("pwff.fc1", inner_width, width);
    const auto second = matrix("pwff.fc2", width, inner_width);
    const auto norm1 = norm("norm1");
    const auto norm2 = norm("norm2");

    const auto apply = [&](auto x, const auto& of, std::uint64_t rows) {
        return program.linear(x, of[0], of[1], static_cast<std::uint32_t>(rows));
    };
    auto h = apply(program.features(kSamples, kChannels), lin, width);
    h = program.layer_norm(h, embed_norm[0], embed_norm[1], kEps);
    h = program.add(h, places);
    h = program.layer_norm(h, embed_norm[0], embed_norm[1], kEps);
    const double scale = 1 / std::sqrt(static_cast<double>(width) / kHeads);
    for (std::uint32_t block = 0; block < kBlocks; ++block) {
        const auto queries = apply(h, q, width);
        const auto keys = apply(h, k, width);
        const auto values = apply(h, v, width);
        h = program.self_attention(queries, keys, values,
                                   {.heads = kHeads, .kv_heads = kHeads, .scale = scale});
        h = program.add(h, apply(h, out, width));
        h = program.layer_norm(h, norm1[0], norm1[1], kEps);
        const auto active = program.activation(apply(h, first, inner_width), Activation::gelu);
        h = program.add(h, apply(active, second, width));
        h = program.layer_norm(h, norm2[0], norm2[1], kEps);
    }
    program.output(Role::hidden, h);
    program.output(Role::embedding, program.mean_rows(h));
    tensors.finish({.part_name = options.part_name.empty() ? "imu" : options.part_name,
                    .architecture = "limu-bert",
                    // What it was trained with: it guessed masked samples.
                    .ignored = {"fc.", "linear.", "norm.", "decoder."},
                    .recipe = limu_bert_recipe(kSamples, kChannels)},
                   program.finish());
}

}  // namespace m4::firmware
