// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "program.hpp"

namespace m4::firmware {

/// What groups of operators a program may have. The packer looks for groups by
/// these rules, the verifier holds an image's groups against them, and the
/// engine then relies on an operator's place in its group.
class FusionRules {
   public:
    /// Operators are verified, or the packer's own. The program must outlive this.
    explicit FusionRules(const Program& program);

    /// Why the operators are no group of this kind; empty: they are.
    [[nodiscard]] std::string fault(const Fusion& fusion) const;

   private:
    const Program& program_;
    std::vector<std::uint32_t> uses_;  ///< of each value, by operators and output ports
};

/// Every group that the rules allow, front to back, the longest first.
[[nodiscard]] std::vector<Fusion> find_fusions(const Program& program);

}  // namespace m4::firmware
