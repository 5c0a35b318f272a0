// SPDX-License-Identifier: MIT
#include <array>
#include <sstream>

#include "encoders.hpp"
#include "kwt_graph.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"
#include "transformer.hpp"

namespace m4::firmware {

namespace {

constexpr std::size_t kLabelsMostBytes = 1U << 20;
/// Speech Commands of twelve labels, in KWT's order.
constexpr std::array<const char*, 12> kPublished = {"_silence_", "_unknown_", "yes",  "no",
                                                    "up",        "down",      "left", "right",
                                                    "on",        "off",       "stop", "go"};

/// NAME.labels.txt or labels.txt, a label a line; else the published ones where they are
/// as many.
std::vector<std::string> labels_beside(const std::filesystem::path& file, std::uint32_t count) {
    auto own = file;
    own.replace_extension(".labels.txt");
    const auto path = is_there(own) ? own : file.parent_path() / "labels.txt";
    std::vector<std::string> labels;
    if (!is_there(path)) {
        if (count == kPublished.size()) {
            labels.assign(kPublished.begin(), kPublished.end());
        }
        return labels;
    }
    std::istringstream lines(read_small_file(path, kLabelsMostBytes));
    for (std::string line; std::getline(lines, line);) {
        if (line.ends_with('\r')) {
            line.pop_back();
        }
        labels.push_back(line);
    }
    if (labels.size() != count) {
        throw Error(path.string(), std::to_string(labels.size()) + " labels for " +
                                       std::to_string(count) + " scores");
    }
    return labels;
}

}  // namespace

void import_kwt(const std::filesystem::path& file, const ImportOptions& options,
                ImageBuilder& builder) {
    const KwtModel model = read_kwt(file);
    EncoderTensors tensors(model.checkpoint, options, builder);
    ProgramBuilder program("encode");
    Transformer transformer(tensors, program, model.width);
    auto x = program.features(model.recipe.frames, model.recipe.coefficients);
    const auto dense = tensors.column_scaled_matrix(
        "dense.weight", {model.width, model.recipe.coefficients}, model.column_scale);
    x = program.linear(x, dense, tensors.vector("dense.bias", model.width), model.width);
    x = program.prepend(x, tensors.table("class_token", {1, model.width}), 1);
    x = program.add(
        x, tensors.table("positions", {std::uint64_t{model.recipe.frames} + 1, model.width}));
    const auto norm = [&](auto y, const std::string& name) {
        return transformer.norm(y, name + ".weight", name + ".bias", model.eps);
    };
    for (std::uint32_t i = 0; i < model.blocks; ++i) {
        const std::string at = "blocks." + std::to_string(i) + ".";
        const auto attended =
            transformer.attention(x, Transformer::SplitAttention{.query = at + "query",
                                                                 .key = at + "key",
                                                                 .value = at + "value",
                                                                 .out = at + "out",
                                                                 .biases = false});
        x = norm(program.add(x, attended), at + "norm1");
        const auto fed = transformer.feed_forward(x, {.in_weight = at + "up.weight",
                                                      .in_bias = at + "up.bias",
                                                      .out_weight = at + "down.weight",
                                                      .out_bias = at + "down.bias",
                                                      .width = model.inner_width,
                                                      .function = Activation::gelu_tanh});
        x = norm(program.add(x, fed), at + "norm2");
    }
    x = program.select_row(x, 0);
    program.output(Role::embedding, x);
    program.output(Role::scores,
                   transformer.linear(x, "head.weight", "head.bias", model.labels, model.width));
    tensors.finish({.part_name = options.part_name.empty() ? "audio" : options.part_name,
                    .architecture = "kwt",
                    .recipe = model.recipe,
                    .labels = labels_beside(file, model.labels)},
                   program.finish());
}

}  // namespace m4::firmware
