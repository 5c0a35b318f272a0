// SPDX-License-Identifier: MIT
#include "top_logits.hpp"

namespace m4::ops {

TopLogits::TopLogits(const Context& context, const ValuePlace& logits, std::uint32_t count)
    : context_(context),
      logits_(logits),
      kernel_(context.pipelines.get(shaders::find_variant(shaders::kTopLogits, shaders::Dtype::any_,
                                                          access_of(context, nullptr)),
                                    std::array{context.tuning.top_lanes, count})) {}

Dispatch TopLogits::dispatch(std::uint32_t first, std::uint32_t count) const {
    return {.kernel = kernel_,
            .push = {logits_.unit + first * logits_.stride, logits_.stride, logits_.columns,
                     context_.words.candidates, StepWords::kCandidateWords},
            .groups_x = count};
}

}  // namespace m4::ops
