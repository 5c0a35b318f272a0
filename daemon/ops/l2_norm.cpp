// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

class L2Norm final : public Operator {
   public:
    L2Norm(const Context& context, const Places& places)
        : context_(context),
          x_(places.inputs[0].value),
          y_(places.output),
          scale_(bits(places.op.real(firmware::AttrId::scale))) {
        kernel_ = context.pipelines.get(
            shaders::find_variant(firmware::OpCode::l2_norm, shaders::Dtype::any_,
                                  access_of(context, nullptr)),
            std::array{context.tuning.norm_lanes});
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const Dispatch dispatch{.kernel = kernel_, .push = {x_.unit, y_.unit, y_.stride, scale_}};
        push_lanes(context_, shape.rows(y_.rows), 1, dispatch, out);
    }

   private:
    const Context& context_;
    ValuePlace x_;
    ValuePlace y_;
    std::uint32_t scale_;
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_l2_norm(const Context& context, const Places& places) {
    return std::make_unique<L2Norm>(context, places);
}

}  // namespace m4::ops
