// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "llama_config.hpp"

namespace m4::firmware {

class Checkpoint;
class GgufFile;
class ImageBuilder;
class JsonObject;
struct ImportOptions;

/// The canonical name of a matrix that is the weight of a linear layer and of nothing
/// else, of its name in a GGUF file; nothing where it is none.
[[nodiscard]] std::optional<std::string> llama_projection_name(std::string_view gguf);

/// What every kind of source of a LLaMA comes down to.
struct LlamaSource {
    LlamaConfig config;
    std::shared_ptr<const Checkpoint> checkpoint;
    bool hf_names = false;  ///< Hugging Face's names of tensors, else GGUF's
    m4_row_order rotated_order = M4_ROW_ORDER_INTERLEAVED;
    std::vector<std::byte> tokenizer;  ///< a section, see build_tokenizer_section()
};

/// LLaMA (Touvron et al. 2023, arXiv 2302.13971): tensors, tokeniser and the
/// "forward" program. All sources give the same image for the same weights.
/// Throw Error naming the file and the tensor or key.
void import_llama(const LlamaSource& source, const ImportOptions& options, ImageBuilder& builder);
void import_llama(const GgufFile& file, const ImportOptions& options, ImageBuilder& builder);
void import_llama(const std::filesystem::path& folder, const JsonObject& config,
                  const ImportOptions& options, ImageBuilder& builder);

}  // namespace m4::firmware
