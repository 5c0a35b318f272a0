// SPDX-License-Identifier: MIT
#include "elementwise.hpp"

namespace m4::ops {

namespace {

class Elementwise final : public Operator {
   public:
    Elementwise(const Context& context, const Places& places,
                std::span<const std::uint32_t> constants)
        : context_(context), y_(places.output) {
        for (const Input& input : places.inputs) {
            inputs_.push_back(input.value);
        }
        std::vector<std::uint32_t> all = {context.tuning.elementwise_lanes};
        all.insert(all.end(), constants.begin(), constants.end());
        kernel_ = context.pipelines.get(shaders::find_variant(places.op.code, shaders::Dtype::any_,
                                                              access_of(context, nullptr)),
                                        all);
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t units = shape.rows(y_.rows) * y_.stride;
        Dispatch dispatch{.kernel = kernel_};
        std::size_t next = 0;
        for (const ValuePlace& input : inputs_) {
            dispatch.push[next++] = input.unit;
        }
        dispatch.push[next++] = y_.unit;
        dispatch.push[next++] = units;
        push_lanes(context_, units, context_.tuning.elementwise_lanes, dispatch, out);
    }

   private:
    const Context& context_;
    std::vector<ValuePlace> inputs_;
    ValuePlace y_;
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_elementwise(const Context& context, const Places& places,
                                           std::span<const std::uint32_t> constants) {
    return std::make_unique<Elementwise>(context, places, constants);
}

}  // namespace m4::ops
