// SPDX-License-Identifier: MIT
#include "llama_config.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "gguf.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint64_t kDimensionMost = 1U << 30;

/// Keys of llama.* that are read below, or that change nothing here.
constexpr std::string_view kKnownKeys[] = {
    "llama.context_length",
    "llama.embedding_length",
    "llama.block_count",
    "llama.feed_forward_length",
    "llama.attention.head_count",
    "llama.attention.head_count_kv",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.layer_norm_rms_epsilon",
    "llama.attention.sliding_window",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scale_linear",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.original_context_length",
    "llama.rope.scaling.finetuned",
    "llama.vocab_size",
    "llama.expert_count",
    "llama.expert_used_count",
    "llama.tensor_data_layout",
};

double as_stored(double value) {
    return static_cast<double>(static_cast<float>(value));
}

/// A required dimension. `Source` is GgufFile or JsonObject.
template <typename Source>
std::uint32_t dimension(const Source& source, const char* key) {
    const auto value = source.unsigned_value(key);
    if (!value) {
        throw Error(source.key_place(key), "is missing");
    }
    if (*value == 0 || *value > kDimensionMost) {
        throw Error(source.key_place(key), std::to_string(*value) + " is not 1 to 2^30");
    }
    return static_cast<std::uint32_t>(*value);
}

template <typename Source>
std::uint32_t dimension_or(const Source& source, const char* key, std::uint32_t otherwise) {
    return source.has(key) ? dimension(source, key) : otherwise;
}

template <typename Source>
double positive(const Source& source, const char* key, std::optional<double> otherwise = {}) {
    const auto value = source.has(key) ? source.real_value(key) : otherwise;
    if (!value) {
        throw Error(source.key_place(key), "is missing");
    }
    if (!(*value > 0.0)) {
        throw Error(source.key_place(key), std::to_string(*value) + " is not above 0");
    }
    return *value;
}

/// Head size where the file leaves it open.
std::uint32_t derived_head_dim(const LlamaConfig& config, const std::string& place) {
    if (config.dim % config.heads != 0) {
        throw Error(place, "width " + std::to_string(config.dim) + " is no multiple of " +
                               std::to_string(config.heads) + " heads");
    }
    return config.dim / config.heads;
}

void check(const LlamaConfig& config, const std::string& place) {
    if (config.heads % config.kv_heads != 0) {
        throw Error(place, std::to_string(config.heads) + " heads are no multiple of " +
                               std::to_string(config.kv_heads) + " KV heads");
    }
    if (config.head_dim % 2 != 0) {
        throw Error(place,
                    "head size " + std::to_string(config.head_dim) + " is odd; RoPE turns pairs");
    }
    if (std::uint64_t{config.heads} * config.head_dim > kDimensionMost) {
        throw Error(place, "heads times head size is beyond 2^30");
    }
}

void refuse_unknown_keys(const GgufFile& file) {
    for (const auto& [key, value] : file.metadata()) {
        if (key.starts_with("llama.") &&
            std::find(std::begin(kKnownKeys), std::end(kKnownKeys), key) == std::end(kKnownKeys)) {
            throw Error(file.key_place(key), "is not supported by this version");
        }
    }
    for (const char* key :
         {"llama.attention.sliding_window", "llama.expert_count", "llama.expert_used_count"}) {
        if (file.unsigned_value(key).value_or(0) != 0) {
            throw Error(file.key_place(key), std::to_string(*file.unsigned_value(key)) +
                                                 " is not supported; supported: none");
        }
    }
    const auto layout = file.string_value("llama.tensor_data_layout");
    if (layout && *layout != "Meta AI original pth") {  // the usual, interleaved order
        throw Error(file.key_place("llama.tensor_data_layout"),
                    shown(*layout) + " is not supported");
    }
}

RopeSettings read_rope(const GgufFile& file, const LlamaConfig& config) {
    RopeSettings rope;
    rope.theta = positive(file, "llama.rope.freq_base", rope.theta);
    const auto rotated = dimension_or(file, "llama.rope.dimension_count", config.head_dim);
    if (rotated != config.head_dim) {
        throw Error(file.key_place("llama.rope.dimension_count"),
                    std::to_string(rotated) + " is not the head size " +
                        std::to_string(config.head_dim) + "; partial rotation is not supported");
    }
    const auto type = file.string_value("llama.rope.scaling.type").value_or("none");
    if (type == "linear") {
        rope.scaling = RopeSettings::Scaling::linear;
        rope.factor = positive(file, "llama.rope.scaling.factor");
    } else if (type != "none") {
        throw Error(file.key_place("llama.rope.scaling.type"),
                    shown(type) + " is not supported; supported: none, linear");
    } else if (file.has("llama.rope.scale_linear")) {  // its name in older files
        rope.scaling = RopeSettings::Scaling::linear;
        rope.factor = positive(file, "llama.rope.scale_linear");
    }
    const auto* factors = file.checkpoint()->find("rope_freqs.weight");
    if (factors == nullptr) {
        return rope;
    }
    if (rope.scaling != RopeSettings::Scaling::none) {
        throw Error(factors->place(), "stands beside another RoPE scaling");
    }
    if (factors->shape != std::vector<std::uint64_t>{config.head_dim / 2}) {
        throw Error(factors->place(), "has shape " + shape_text(factors->shape) + " instead of [" +
                                          std::to_string(config.head_dim / 2) + "]");
    }
    rope.scaling = RopeSettings::Scaling::factors;
    rope.factors.resize(config.head_dim / 2);
    factors->read(0, rope.factors);
    for (const float factor : rope.factors) {
        if (!(factor > 0.0F) || !std::isfinite(factor)) {
            throw Error(factors->place(), "holds a factor that is not above 0");
        }
    }
    return rope;
}

/// rope_scaling of config.json, or rope_parameters as newer files call it.
RopeSettings read_rope(const JsonObject& config) {
    RopeSettings rope;
    rope.theta = positive(config, "rope_theta", rope.theta);
    const bool newer = config.has("rope_parameters");
    const auto scaling = config.object_value(newer ? "rope_parameters" : "rope_scaling");
    if (!scaling) {
        return rope;
    }
    rope.theta = positive(*scaling, "rope_theta", rope.theta);
    const char* key = scaling->has("rope_type") ? "rope_type" : "type";
    const auto type = scaling->string_value(key);
    if (!type) {
        throw Error(scaling->key_place("rope_type"), "is missing");
    }
    if (*type == "linear") {
        rope.scaling = RopeSettings::Scaling::linear;
        rope.factor = positive(*scaling, "factor");
    } else if (*type == "llama3") {
        rope.scaling = RopeSettings::Scaling::llama3;
        rope.factor = positive(*scaling, "factor");
        rope.low_freq_factor = positive(*scaling, "low_freq_factor");
        rope.high_freq_factor = positive(*scaling, "high_freq_factor");
        rope.original_context = positive(*scaling, "original_max_position_embeddings");
        if (rope.high_freq_factor <= rope.low_freq_factor) {
            throw Error(scaling->key_place("high_freq_factor"), "is not above low_freq_factor");
        }
    } else if (*type != "default") {
        throw Error(scaling->key_place(key),
                    shown(*type) + " is not supported; supported: default, linear, llama3");
    }
    return rope;
}

void refuse_unsupported(const JsonObject& config) {
    const auto activation = config.string_value("hidden_act").value_or("silu");
    if (activation != "silu") {
        throw Error(config.key_place("hidden_act"),
                    shown(activation) + " is not supported; supported: silu");
    }
    if (positive(config, "partial_rotary_factor", 1.0) != 1.0) {
        throw Error(config.key_place("partial_rotary_factor"), "partial rotation is not supported");
    }
    // Settings that other models of the family bring along: absent, null,
    // false and 0 mean that they are off.
    for (const char* key :
         {"sliding_window", "use_sliding_window", "num_local_experts", "num_experts",
          "num_experts_per_tok", "quantization_config", "attn_logit_softcapping",
          "final_logit_softcapping", "use_qk_norm", "qk_norm", "no_rope_layers"}) {
        const auto found = config.json().find(key);
        const bool off =
            found == config.json().end() || found->is_null() || *found == false || *found == 0;
        if (!off) {
            throw Error(config.key_place(key), "is not supported; supported: none");
        }
    }
}

}  // namespace

LlamaConfig read_llama_config(const GgufFile& file) {
    refuse_unknown_keys(file);
    LlamaConfig config;
    config.dim = dimension(file, "llama.embedding_length");
    config.layers = dimension(file, "llama.block_count");
    config.heads = dimension(file, "llama.attention.head_count");
    config.kv_heads = dimension_or(file, "llama.attention.head_count_kv", config.heads);
    config.ffn = dimension(file, "llama.feed_forward_length");
    config.context = dimension(file, "llama.context_length");
    config.eps = as_stored(positive(file, "llama.attention.layer_norm_rms_epsilon"));
    config.head_dim = file.has("llama.attention.key_length")
                          ? dimension(file, "llama.attention.key_length")
                          : derived_head_dim(config, file.place());
    if (dimension_or(file, "llama.attention.value_length", config.head_dim) != config.head_dim) {
        throw Error(file.key_place("llama.attention.value_length"),
                    "is not key_length, which is not supported");
    }
    check(config, file.place());
    config.rope = read_rope(file, config);
    config.rope.theta = as_stored(config.rope.theta);
    const auto& checkpoint = *file.checkpoint();
    const auto* embedding = checkpoint.find("token_embd.weight");
    if (embedding == nullptr || embedding->shape.size() != 2 ||
        embedding->shape.front() > kDimensionMost) {
        throw Error(file.place() + ": tensor 'token_embd.weight'",
                    "is missing or not a matrix of at most 2^30 rows");
    }
    config.vocabulary = static_cast<std::uint32_t>(embedding->shape.front());
    if (dimension_or(file, "llama.vocab_size", config.vocabulary) != config.vocabulary) {
        throw Error(
            file.key_place("llama.vocab_size"),
            "is not the " + std::to_string(config.vocabulary) + " rows of 'token_embd.weight'");
    }
    config.tied = checkpoint.find("output.weight") == nullptr;
    config.attention_bias = checkpoint.find("blk.0.attn_q.bias") != nullptr;
    config.mlp_bias = checkpoint.find("blk.0.ffn_up.bias") != nullptr;
    return config;
}

LlamaConfig read_llama_config(const JsonObject& json) {
    refuse_unsupported(json);
    LlamaConfig config;
    config.dim = dimension(json, "hidden_size");
    config.layers = dimension(json, "num_hidden_layers");
    config.heads = dimension(json, "num_attention_heads");
    config.kv_heads = dimension_or(json, "num_key_value_heads", config.heads);
    config.ffn = dimension(json, "intermediate_size");
    config.vocabulary = dimension(json, "vocab_size");
    config.context = dimension(json, "max_position_embeddings");
    config.eps = as_stored(positive(json, "rms_norm_eps"));
    config.head_dim =
        json.has("head_dim") ? dimension(json, "head_dim") : derived_head_dim(config, json.place());
    check(config, json.place());
    config.rope = read_rope(json);
    config.rope.theta = as_stored(config.rope.theta);
    config.tied = json.bool_value("tie_word_embeddings").value_or(false);
    config.attention_bias = json.bool_value("attention_bias").value_or(false);
    config.mlp_bias = json.bool_value("mlp_bias").value_or(false);
    return config;
}

}  // namespace m4::firmware
