// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "program.hpp"

/// Which ports the programs of a part have, and what their values look like. Each says
/// what is amiss, in words; empty: nothing.
namespace m4::firmware {

/// Of one port, whose value exists.
[[nodiscard]] std::string input_fault(const Part& part, const Program& program, const Port& port);
[[nodiscard]] std::string output_fault(const Part& part, const Program& program, const Port& port);

/// Of all of them together: those that are missing, or do not go with others.
[[nodiscard]] std::string inputs_fault(const Part& part, const Program& program);
[[nodiscard]] std::string outputs_fault(const Part& part, const Program& program);

}  // namespace m4::firmware
