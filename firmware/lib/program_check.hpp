// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>

#include "program.hpp"

namespace m4::firmware {

struct Tensor;

/// Throws Error where a program of `part` breaks a rule of docs/programs.md.
/// `place` names it.
void check_program(const Part& part, const Program& program, std::span<const Tensor> tensors,
                   std::string place);

/// Whether tokens are among its inputs.
[[nodiscard]] bool takes_tokens(const Program& program);

}  // namespace m4::firmware
