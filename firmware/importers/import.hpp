// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <filesystem>
#include <string>

namespace m4::firmware {

class ImageBuilder;

/// What to import and how to keep it.
struct ImportOptions {
    std::filesystem::path from;          ///< a .gguf file or a Hugging Face folder
    m4_dtype stored = M4_DTYPE_F16;      ///< matrices: F32 or F16 (norms and tables stay F32)
    std::string part_name = "backbone";  ///< [a-z0-9-]
};

/// Reads a checkpoint and gives `builder` its tensors, its tokeniser section
/// and the package with its programs; the caller writes the image afterwards.
/// The source stays mapped until `builder` is destroyed and must not change
/// meanwhile. Throws Error naming the file and the tensor or key.
void import_model(const ImportOptions& options, ImageBuilder& builder);

}  // namespace m4::firmware
