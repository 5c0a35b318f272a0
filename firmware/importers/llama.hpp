// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>

namespace m4::firmware {

class GgufFile;
class ImageBuilder;
class JsonObject;
struct ImportOptions;

/// LLaMA (Touvron et al. 2023, arXiv 2302.13971): tensors, tokeniser and the
/// "forward" program. Both sources give the same image for the same weights.
/// Throw Error naming the file and the tensor or key.
void import_llama(const GgufFile& file, const ImportOptions& options, ImageBuilder& builder);
void import_llama(const std::filesystem::path& folder, const JsonObject& config,
                  const ImportOptions& options, ImageBuilder& builder);

}  // namespace m4::firmware
