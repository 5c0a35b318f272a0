// SPDX-License-Identifier: MIT
#include "by_unit.hpp"

#include <algorithm>

namespace m4::ops {

namespace {

class ByUnit final : public Operator {
   public:
    ByUnit(const Context& context, const Places& places, const TensorPlace* tensor,
           std::vector<std::uint32_t> push)
        : context_(context), y_(places.output), push_(std::move(push)) {
        if (tensor != nullptr) {
            tensor_ = tensor->binding.set;
        }
        kernel_ = context.pipelines.get(
            shaders::find_variant(places.op.code,
                                  tensor == nullptr ? shaders::Dtype::any_ : dtype_of(*tensor),
                                  access_of(context, tensor)),
            std::array{context.tuning.elementwise_lanes});
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t units = shape.rows(y_.rows) * y_.stride;
        Dispatch dispatch{.kernel = kernel_, .tensor = tensor_};
        std::copy(push_.begin(), push_.end(), dispatch.push.begin());
        dispatch.push.at(push_.size()) = units;
        push_lanes(context_, units, context_.tuning.elementwise_lanes, dispatch, out);
    }

   private:
    const Context& context_;
    ValuePlace y_;
    std::vector<std::uint32_t> push_;
    hpp::DescriptorSet tensor_;
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_by_unit(const Context& context, const Places& places,
                                       const TensorPlace* tensor, std::vector<std::uint32_t> push) {
    return std::make_unique<ByUnit>(context, places, tensor, std::move(push));
}

}  // namespace m4::ops
