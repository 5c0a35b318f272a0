// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "program.hpp"

/// What holds for decoders beside the rules of their programs. Each throws Error.
namespace m4::firmware {

/// Sizes, the two programs and how they fit each other, and how it is asked. The
/// context length and the vocabulary are sound.
void check_decoder(const Part& part, const std::string& place);

/// It has one encoder, whose rows it takes.
void check_decoder_company(const Part& part, const Package& package, const std::string& place);

}  // namespace m4::firmware
