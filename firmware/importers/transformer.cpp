// SPDX-License-Identifier: MIT
#include "transformer.hpp"

#include <array>
#include <cmath>

namespace m4::firmware {

using Ref = ProgramBuilder::Ref;

Ref Transformer::norm(Ref x, const std::string& weight, const std::string& bias, double eps) {
    const Ref factor = tensors_.vector(weight, width_);  // tensors in this order, always
    return program_.layer_norm(x, factor, tensors_.vector(bias, width_), eps);
}

Ref Transformer::linear(Ref x, const std::string& weight, const std::string& bias,
                        std::uint64_t rows, std::uint64_t columns) {
    const Ref matrix = tensors_.matrix(weight, {rows, columns});
    return program_.linear(x, matrix, bias.empty() ? Ref{} : tensors_.vector(bias, rows),
                           static_cast<std::uint32_t>(rows));
}

Ref Transformer::attention(Ref x, const Attention& names) {
    const std::uint64_t width = width_;
    std::array<Ref, 3> qkv;
    for (std::uint64_t i = 0; i < qkv.size(); ++i) {
        const Ref matrix = tensors_.matrix_rows(names.weight, {3 * width, width}, i * width, width);
        const Ref bias = tensors_.vector_part(names.bias, 3 * width, i * width, width);
        qkv.at(i) = program_.linear(x, matrix, bias, width_);
    }
    // Without a mask it does not matter where a key stands.
    if (!names.key_row.empty()) {
        qkv[1] = program_.prepend(qkv[1], tensors_.table(names.key_row, {1, 1, width}), 1);
        qkv[2] = program_.prepend(qkv[2], tensors_.table(names.value_row, {1, 1, width}), 1);
    }
    const double scale = 1 / std::sqrt(static_cast<double>(width_) / names.heads);
    const Ref y = program_.self_attention(
        qkv[0], qkv[1], qkv[2],
        {.heads = names.heads, .kv_heads = names.heads, .scale = scale, .causal = names.causal});
    return linear(y, names.out_weight, names.out_bias, width, width);
}

Ref Transformer::attention(Ref x, const SplitAttention& names) {
    const auto project = [&](Ref in, const std::string& name, bool bias) {
        return linear(in, name + ".weight", bias ? name + ".bias" : "", width_, width_);
    };
    const Ref q = project(x, names.query, names.biases);
    const Ref k = project(x, names.key, names.biases);
    const Ref v = project(x, names.value, names.biases);
    const double scale = 1 / std::sqrt(static_cast<double>(width_) / names.heads);
    const Ref y = program_.self_attention(
        q, k, v,
        {.heads = names.heads, .kv_heads = names.heads, .scale = scale, .causal = names.causal});
    return project(y, names.out, true);
}

Ref Transformer::feed_forward(Ref x, const FeedForward& names) {
    x = linear(x, names.in_weight, names.in_bias, names.width, width_);
    x = program_.activation(x, names.function);
    return linear(x, names.out_weight, names.out_bias, width_, names.width);
}

}  // namespace m4::firmware
