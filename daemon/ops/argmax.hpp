// SPDX-License-Identifier: MIT
#pragma once

#include "operator.hpp"

namespace m4::ops {

/// The most probable token of rows of logits: a kernel of the engine's own, of
/// which programs know nothing.
class Argmax {
   public:
    /// `context` outlives it.
    Argmax(const Context& context, const ValuePlace& logits);

    /// Of output rows [first, first + count) to the step's words from `ids_word`
    /// on. `advance`: each token is also its row's next input, a position on.
    [[nodiscard]] Dispatch dispatch(std::uint32_t first, std::uint32_t count,
                                    std::uint32_t ids_word, bool advance) const;

   private:
    const Context& context_;
    ValuePlace logits_;
    vk::Kernel* kernel_;
};

}  // namespace m4::ops
