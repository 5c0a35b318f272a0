// SPDX-License-Identifier: MIT
#include "plain_whisper.hpp"

#include <algorithm>
#include <cmath>

namespace m4::test {

namespace {

constexpr double kEps = 1e-5;
const std::string kDecoder = "model.decoder.";

std::string layer_name(const std::string& root, std::uint32_t layer) {
    return root + "layers." + std::to_string(layer) + ".";
}

void add_attention(PlainTensors& tensors, const std::string& at, std::uint32_t width) {
    tensors.add_norm(at + "_layer_norm", width);
    tensors.add_linear(at + ".q_proj", width, width);
    tensors.add(at + ".k_proj.weight", {width, width});
    tensors.add_linear(at + ".v_proj", width, width);
    tensors.add_linear(at + ".out_proj", width, width);
}

void add_feed_forward(PlainTensors& tensors, const std::string& at, const WhisperDims& dims) {
    tensors.add_norm(at + "final_layer_norm", dims.width);
    tensors.add_linear(at + "fc1", dims.inner, dims.width);
    tensors.add_linear(at + "fc2", dims.width, dims.inner);
}

Rows project(const PlainTensors& tensors, const Rows& x, const std::string& name,
             bool bias = true) {
    return tensors.linear(x, name + ".weight", bias ? name + ".bias" : "");
}

}  // namespace

PlainTensors random_whisper(const WhisperDims& dims, std::uint32_t seed) {
    PlainTensors tensors(seed);
    const std::string encoder = "model.encoder.";
    tensors.add(encoder + "conv1.weight", {dims.width, dims.bins, 3});
    tensors.add(encoder + "conv1.bias", {dims.width});
    tensors.add(encoder + "conv2.weight", {dims.width, dims.width, 3});
    tensors.add(encoder + "conv2.bias", {dims.width});
    tensors.add(encoder + "embed_positions.weight", {dims.rows, dims.width});
    tensors.add(kDecoder + "embed_positions.weight", {dims.context, dims.width});
    tensors.add(kDecoder + "embed_tokens.weight", {dims.vocabulary, dims.width});
    for (std::uint32_t i = 0; i < dims.layers; ++i) {
        add_attention(tensors, layer_name(encoder, i) + "self_attn", dims.width);
        add_feed_forward(tensors, layer_name(encoder, i), dims);
        add_attention(tensors, layer_name(kDecoder, i) + "self_attn", dims.width);
        add_attention(tensors, layer_name(kDecoder, i) + "encoder_attn", dims.width);
        add_feed_forward(tensors, layer_name(kDecoder, i), dims);
    }
    tensors.add_norm(encoder + "layer_norm", dims.width);
    tensors.add_norm(kDecoder + "layer_norm", dims.width);
    return tensors;
}

std::string whisper_config(const WhisperDims& dims, const std::string& extra) {
    const auto size = [](const char* key, std::uint32_t value) {
        return std::string(", \"") + key + "\": " + std::to_string(value);
    };
    return R"({"model_type": "whisper")" + size("d_model", dims.width) +
           size("num_mel_bins", dims.bins) + size("max_source_positions", dims.rows) +
           size("max_target_positions", dims.context) + size("vocab_size", dims.vocabulary) +
           size("encoder_layers", dims.layers) + size("decoder_layers", dims.layers) +
           size("encoder_attention_heads", dims.heads) +
           size("decoder_attention_heads", dims.heads) + size("encoder_ffn_dim", dims.inner) +
           size("decoder_ffn_dim", dims.inner) + extra + "}";
}

PlainDecoder::PlainDecoder(const PlainTensors& tensors, const WhisperDims& dims, const Rows& hidden)
    : tensors_(tensors), dims_(dims) {
    for (std::uint32_t i = 0; i < dims.layers; ++i) {
        const std::string at = layer_name(kDecoder, i) + "encoder_attn.";
        keys_.push_back(project(tensors, hidden, at + "k_proj", false));
        values_.push_back(project(tensors, hidden, at + "v_proj"));
    }
}

Rows PlainDecoder::logits(std::span<const std::uint32_t> tokens) const {
    const Rows embedding = tensors_.rows(kDecoder + "embed_tokens.weight", dims_.width);
    const Rows places = tensors_.rows(kDecoder + "embed_positions.weight", dims_.width);
    Rows x;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        x.push_back(plain_sum({embedding.at(tokens[i])}, {places.at(i)}).front());
    }
    for (std::uint32_t i = 0; i < dims_.layers; ++i) {
        const std::string at = layer_name(kDecoder, i);
        Rows h = tensors_.norm(x, at + "self_attn_layer_norm", kEps);
        h = plain_attention(project(tensors_, h, at + "self_attn.q_proj"),
                            project(tensors_, h, at + "self_attn.k_proj", false),
                            project(tensors_, h, at + "self_attn.v_proj"), dims_.heads, true);
        x = plain_sum(x, project(tensors_, h, at + "self_attn.out_proj"));
        h = tensors_.norm(x, at + "encoder_attn_layer_norm", kEps);
        h = plain_attention(project(tensors_, h, at + "encoder_attn.q_proj"), keys_[i], values_[i],
                            dims_.heads, false);
        x = plain_sum(x, project(tensors_, h, at + "encoder_attn.out_proj"));
        h = tensors_.norm(x, at + "final_layer_norm", kEps);
        h = plain_map(project(tensors_, h, at + "fc1"), plain_gelu);
        x = plain_sum(x, project(tensors_, h, at + "fc2"));
    }
    x = tensors_.norm(x, kDecoder + "layer_norm", kEps);
    return tensors_.linear(x, kDecoder + "embed_tokens.weight", "");
}

PlainDecoder::Continuation PlainDecoder::greedy(std::vector<std::uint32_t> begin,
                                                std::size_t count) const {
    Continuation all;
    all.margin = HUGE_VAL;
    for (std::size_t i = 0; i < count; ++i) {
        const Row last = logits(begin).back();
        const auto best = std::max_element(last.begin(), last.end());
        for (auto at = last.begin(); at != last.end(); ++at) {
            all.margin = at == best ? all.margin : std::min(all.margin, *best - *at);
        }
        all.ids.push_back(static_cast<std::uint32_t>(best - last.begin()));
        begin.push_back(all.ids.back());
    }
    return all;
}

}  // namespace m4::test
