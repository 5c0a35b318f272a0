// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <filesystem>
#include <optional>
#include <string>

namespace m4::firmware {

class ImageBuilder;

/// What to import and how to keep it.
struct ImportOptions {
    std::filesystem::path from;  ///< a .gguf file, a Hugging Face folder, or an
                                 ///< encoder's .safetensors file
    /// Matrices: F32, F16, Q8 or Q4 (norms and tables stay F32). None: as the
    /// source has them, Q8_0 as Q8, Q4_0 as Q4, the others as F16. A matrix
    /// whose rows are not whole blocks is F16 where Q8 or Q4 was meant.
    std::optional<m4_dtype> stored = {};
    /// [a-z0-9-]. Empty: "backbone", or an encoder's sense, as "image". Of several
    /// parts in one checkpoint each adds its sense to it: "eye-image".
    std::string part_name = {};
    /// Of a text encoder: its tokeniser, a file or a folder. Empty: what lies beside it.
    std::filesystem::path tokenizer = {};
    /// Of a projector: the space it takes. Empty: as its file says, or the only one.
    std::string space = {};
};

/// Reads a checkpoint and gives `builder` its tensors, its tokeniser section
/// and the package with its programs; the caller writes the image afterwards.
/// The source stays mapped until `builder` is destroyed and must not change
/// meanwhile. Throws Error naming the file and the tensor or key.
void import_model(const ImportOptions& options, ImageBuilder& builder);

}  // namespace m4::firmware
