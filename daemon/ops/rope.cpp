// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

class Rope final : public Operator {
   public:
    Rope(const Context& context, const Places& places)
        : context_(context),
          x_(places.inputs[0].value),
          positions_(places.inputs[1].value),
          y_(places.output),
          table_(places.inputs[2].tensor.binding.set),
          rotated_(places.inputs[2].tensor.columns),
          head_dim_(static_cast<std::uint32_t>(places.op.integer(firmware::AttrId::head_dim))),
          fine_rows_(static_cast<std::uint32_t>(places.op.integer(firmware::AttrId::fine_rows))) {
        const TensorPlace& table = places.inputs[2].tensor;
        kernel_ =
            context.pipelines.get(shaders::find_variant(firmware::OpCode::rope, dtype_of(table),
                                                        access_of(context, &table)),
                                  std::array{context.tuning.elementwise_lanes});
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(y_.rows);
        const Dispatch dispatch{.kernel = kernel_,
                                .tensor = table_,
                                .push = {x_.unit, y_.unit, y_.stride, y_.columns, rows,
                                         positions_.word, head_dim_, rotated_, fine_rows_}};
        push_lanes(context_, std::uint64_t{rows} * y_.stride, context_.tuning.elementwise_lanes,
                   dispatch, out);
    }

   private:
    const Context& context_;
    ValuePlace x_;
    ValuePlace positions_;
    ValuePlace y_;
    hpp::DescriptorSet table_;
    std::uint32_t rotated_;
    std::uint32_t head_dim_;
    std::uint32_t fine_rows_;
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_rope(const Context& context, const Places& places) {
    return std::make_unique<Rope>(context, places);
}

}  // namespace m4::ops
