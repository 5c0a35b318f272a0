// SPDX-License-Identifier: MIT
#include "low_rank.hpp"

#include <algorithm>

namespace m4::ops {

LowRank::LowRank(const Context& context, const LinearJob& job, shaders::Access access)
    : context_(context),
      rows_(job.parts[0].y.rows),
      first_linear_(job.first_linear),
      parts_(static_cast<std::uint32_t>(job.parts.size())) {
    const bool outputs = rows_.symbol == firmware::Symbol::outputs;
    if (context.low_rank_unit == 0 || rows_.factor != 1 ||
        !(outputs || rows_.symbol == firmware::Symbol::tokens)) {
        return;
    }
    const std::uint32_t adapters = outputs ? context.words.output_adapters : context.words.adapters;
    const Tuning& tuning = context.tuning;
    const bool storage = access == shaders::Access::storage;
    const bool subgroup8 = tuning.subgroup8 && context.limits.subgroup8 && !storage &&
                           tuning.linear_split == 1 && tuning.linear_lanes % 8 == 0;
    kernel_ = context.pipelines.get(
        shaders::find_variant(shaders::kLowRank, shaders::Dtype::f32_,
                              storage ? shaders::Access::storage : shaders::Access::texel, 1,
                              subgroup8 ? shaders::Needs::subgroup8 : shaders::Needs::nothing),
        std::array{tuning.linear_lanes, tuning.linear_split, job.norm != nullptr ? 1U : 0U,
                   adapters, context.low_rank_unit});
    dispatch_ = {
        .kernel = kernel_,
        .tensor = job.weight.binding.set,
        .second = job.norm != nullptr ? job.norm->binding.set : hpp::DescriptorSet{},
        .push = {job.x.unit, job.x.stride, job.x.columns, job.first_linear, parts_, 0, job.eps},
        .after_barrier = true};
}

bool LowRank::dispatch(const StepShape& shape, std::vector<Dispatch>& out) const {
    if (shape.rank == 0 || kernel_ == nullptr) {
        return false;
    }
    const std::vector<bool>& covered = context_.covered->at(shape.covered);
    const auto first = covered.begin() + first_linear_;
    if (std::find(first, first + parts_, true) == first + parts_) {
        return false;
    }
    Dispatch dispatch = dispatch_;
    dispatch.push[5] = shape.rank;
    dispatch.groups_y = shape.rows(rows_);
    push_lanes(context_, std::uint64_t{parts_} * shape.rank * context_.tuning.linear_split,
               context_.tuning.linear_lanes, dispatch, out);
    return true;
}

}  // namespace m4::ops
