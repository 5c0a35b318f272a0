// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

class LayerNorm final : public Operator {
   public:
    LayerNorm(const Context& context, const Places& places)
        : context_(context),
          x_(places.inputs[0].value),
          y_(places.output),
          weight_(places.inputs[1].tensor.binding.set),
          bias_(places.inputs[2].tensor.binding.set),
          eps_(bits(places.op.real(firmware::AttrId::eps))) {
        const TensorPlace& weight = places.inputs[1].tensor;
        const auto access = find_access(context, {&weight, &places.inputs[2].tensor});
        if (!access) {
            refuse_access(weight);
        }
        kernel_ = context.pipelines.get(
            shaders::find_variant(firmware::OpCode::layer_norm, dtype_of(weight), *access),
            std::array{context.tuning.norm_lanes});
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const Dispatch dispatch{.kernel = kernel_,
                                .tensor = weight_,
                                .second = bias_,
                                .push = {x_.unit, y_.unit, y_.stride, y_.columns, eps_}};
        push_lanes(context_, shape.rows(y_.rows), 1, dispatch, out);
    }

   private:
    const Context& context_;
    ValuePlace x_;
    ValuePlace y_;
    hpp::DescriptorSet weight_;
    hpp::DescriptorSet bias_;
    std::uint32_t eps_;
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_layer_norm(const Context& context, const Places& places) {
    return std::make_unique<LayerNorm>(context, places);
}

}  // namespace m4::ops
