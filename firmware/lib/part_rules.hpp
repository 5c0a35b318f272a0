// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "program.hpp"

namespace m4::firmware {

struct Tensor;

/// What a part has besides its programs, by its kind: sizes and tokeniser; recipe,
/// space and labels, held against the programs' ports. Throws Error.
void check_properties(const Part& part, std::span<const Tensor> tensors, const std::string& place);

/// Parts against each other: one width in a space; a projector's rows fit the
/// backbone. Of parts that are sound by themselves.
void check_company(const Package& package);

}  // namespace m4::firmware
