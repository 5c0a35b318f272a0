// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "lib/image.hpp"

namespace m4::firmware {

class GgufWriter;

/// Gives `out` the image's backbone as the GGUF of a LLaMA: settings that the
/// program shows, the tokeniser, the tensors as they are stored. Throws Error
/// naming `place` and what a GGUF of a LLaMA cannot say. `image` must outlive
/// `out`.
void export_llama(const MappedImage& image, const std::string& place, GgufWriter& out);

}  // namespace m4::firmware
