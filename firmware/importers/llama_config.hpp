// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "rope_table.hpp"

namespace m4::firmware {

class GgufFile;
class JsonObject;

/// The hyperparameters of a LLaMA, whichever file they came from. Both readers
/// have checked that the numbers fit one another, and round eps and the RoPE
/// base to F32, as GGUF stores them, so that one model gives one image.
struct LlamaConfig {
    std::uint32_t dim = 0;
    std::uint32_t layers = 0;
    std::uint32_t heads = 0;
    std::uint32_t kv_heads = 0;
    std::uint32_t head_dim = 0;
    std::uint32_t ffn = 0;
    std::uint32_t vocabulary = 0;
    std::uint32_t context = 0;
    double eps = 0.0;
    RopeSettings rope;
    bool tied = false;  ///< the output projection is the embedding
    bool attention_bias = false;
    bool mlp_bias = false;
};

/// From llama.* metadata. A llama.* key that is not understood is refused by
/// name: it would change the model. Throws Error.
[[nodiscard]] LlamaConfig read_llama_config(const GgufFile& file);

/// From config.json. Settings that change the model and are not supported
/// (sliding windows, experts, other activations, ...) are refused by name.
[[nodiscard]] LlamaConfig read_llama_config(const JsonObject& config);

}  // namespace m4::firmware
