// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "llama_config.hpp"

namespace m4::firmware {

class ImageBuilder;
struct ImportOptions;

/// The shape of a well-known model ("134m", "1.1b", "7b", ...), to be tried
/// without its checkpoint. None: no such name.
[[nodiscard]] std::optional<LlamaConfig> synth_shape(std::string_view name);
/// "15m, 134m, ..."
[[nodiscard]] std::string_view synth_shape_names();

/// A LLaMA of random weights, and a tokeniser of made-up words: the size and
/// speed of a real model, and nonsense for text. The same shape and seed give
/// the same image everywhere. Nothing of `options` but what concerns the
/// stored form is used. Memory does not grow with the model. Throws Error where
/// the shape is none.
void synthesize_llama(LlamaConfig config, std::uint64_t seed, const ImportOptions& options,
                      ImageBuilder& builder);

}  // namespace m4::firmware
