// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "importers/llama_config.hpp"
#include "lib/image.hpp"

namespace m4::firmware {

/// A matrix as a program multiplies with it; without a bias, null.
struct LlamaProjection {
    const Tensor* weight = nullptr;
    const Tensor* bias = nullptr;
};

struct LlamaLayer {
    const Tensor* attention_norm = nullptr;
    LlamaProjection q, k, v, o;
    const Tensor* ffn_norm = nullptr;
    LlamaProjection gate, up, down;
};

/// A LLaMA told from its program alone, whatever its tensors are called. All
/// of `config` but `rope` is set.
struct LlamaProgram {
    LlamaConfig config;
    const Tensor* embedding = nullptr;
    std::vector<LlamaLayer> layers;
    const Tensor* final_norm = nullptr;
    const Tensor* output = nullptr;  ///< null: tied
    const Tensor* rope_table = nullptr;
    std::uint32_t fine_rows = 0;
};

/// Reads the part's program backwards from its logits. The order of operators
/// is free; what they compute must be a LLaMA, all of them must take part, and
/// every layer must be of the same size. Throws Error naming `place` and the
/// operator that does not fit. The result points into `image`.
[[nodiscard]] LlamaProgram recognize_llama(const Image& image, const Part& part,
                                           const std::string& place);

}  // namespace m4::firmware
