// SPDX-License-Identifier: MIT
#include "by_row.hpp"

#include <algorithm>

namespace m4::ops {

namespace {

class ByRow final : public Operator {
   public:
    ByRow(const Context& context, const Places& places, std::span<const TensorPlace* const> tensors,
          std::span<const std::uint32_t> push)
        : context_(context), y_(places.output) {
        const TensorPlace* first = tensors.empty() ? nullptr : tensors[0];
        const TensorPlace* second = tensors.size() < 2 ? nullptr : tensors[1];
        const auto access = find_access(context, {first, second});
        if (!access) {
            refuse_access(*first);
        }
        dispatch_.kernel = context.pipelines.get(
            shaders::find_variant(places.op.code,
                                  first == nullptr ? shaders::Dtype::any_ : dtype_of(*first),
                                  *access),
            std::array{context.tuning.norm_lanes});
        dispatch_.tensor = first == nullptr ? hpp::DescriptorSet{} : first->binding.set;
        dispatch_.second = second == nullptr ? hpp::DescriptorSet{} : second->binding.set;
        dispatch_.push = {places.inputs[0].value.unit, y_.unit, y_.stride};
        std::copy(push.begin(), push.end(), dispatch_.push.begin() + 3);
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        push_lanes(context_, shape.rows(y_.rows), 1, dispatch_, out);
    }

   private:
    const Context& context_;
    ValuePlace y_;
    Dispatch dispatch_;
};

}  // namespace

std::unique_ptr<Operator> make_by_row(const Context& context, const Places& places,
                                      std::span<const TensorPlace* const> tensors,
                                      std::span<const std::uint32_t> push) {
    return std::make_unique<ByRow>(context, places, tensors, push);
}

}  // namespace m4::ops
