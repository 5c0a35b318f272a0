// SPDX-License-Identifier: MIT
#include "argmax.hpp"

namespace m4::ops {

Argmax::Argmax(const Context& context, const ValuePlace& logits)
    : context_(context),
      logits_(logits),
      kernel_(context.pipelines.get(shaders::find_variant(shaders::kArgmax, shaders::Dtype::any_,
                                                          access_of(context, nullptr)),
                                    std::array{context.tuning.norm_lanes})) {}

Dispatch Argmax::dispatch(std::uint32_t first, std::uint32_t count, std::uint32_t ids_word,
                          bool advance) const {
    const StepWords& words = context_.words;
    return {
        .kernel = kernel_,
        .push = {logits_.unit + first * logits_.stride, logits_.stride, logits_.columns, ids_word,
                 words.output_rows + first, words.token_ids, words.positions, advance ? 1U : 0U},
        .groups_x = count};
}

}  // namespace m4::ops
