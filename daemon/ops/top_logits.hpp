// SPDX-License-Identifier: MIT
#pragma once

#include "operator.hpp"

namespace m4::ops {

/// The best tokens of rows of logits: a kernel of the engine's own, of which
/// programs know nothing.
class TopLogits {
   public:
    /// `context` outlives it. `count`: tokens of a row, at most kMostCandidates and
    /// at most the vocabulary.
    TopLogits(const Context& context, const ValuePlace& logits, std::uint32_t count);

    /// Of output rows [first, first + count) to the step's candidates, from those of
    /// output 0 on.
    [[nodiscard]] Dispatch dispatch(std::uint32_t first, std::uint32_t count) const;

   private:
    const Context& context_;
    ValuePlace logits_;
    vk::Kernel* kernel_;
};

}  // namespace m4::ops
