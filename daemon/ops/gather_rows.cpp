// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

class GatherRows final : public Operator {
   public:
    GatherRows(const Context& context, const Places& places)
        : context_(context), rows_(places.inputs[1].value), y_(places.output) {
        const Input& data = places.inputs[0];
        const std::array constants = {context.tuning.elementwise_lanes};
        if (data.kind == firmware::OperandKind::tensor) {
            const shaders::Dtype dtype = dtype_of(data.tensor);
            tensor_ = data.tensor.set;
            stride_ = block_shape(data.tensor).group_units;
            kernel_ =
                context.pipelines.get(shaders::find_variant(firmware::OpCode::gather_rows, dtype,
                                                            access_of(context, &data.tensor)),
                                      constants);
        } else {
            offset_ = data.value.unit;
            stride_ = data.value.stride;
            kernel_ = context.pipelines.get(
                shaders::find_variant(firmware::OpCode::gather_rows, shaders::Dtype::any_,
                                      access_of(context, nullptr)),
                constants);
        }
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(y_.rows);
        const Dispatch dispatch{
            .kernel = kernel_,
            .tensor = tensor_,
            .push = {offset_, stride_, y_.unit, y_.stride, rows, rows_.word, y_.columns}};
        push_lanes(context_, std::uint64_t{rows} * y_.stride, context_.tuning.elementwise_lanes,
                   dispatch, out);
    }

   private:
    const Context& context_;
    ValuePlace rows_;
    ValuePlace y_;
    hpp::DescriptorSet tensor_;
    std::uint32_t offset_ = 0;
    std::uint32_t stride_ = 0;
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_gather_rows(const Context& context, const Places& places) {
    return std::make_unique<GatherRows>(context, places);
}

}  // namespace m4::ops
