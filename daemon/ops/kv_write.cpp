// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

class KvWrite final : public Operator {
   public:
    KvWrite(const Context& context, const Places& places)
        : context_(context),
          state_(places.inputs[0].state),
          k_(places.inputs[1].value),
          v_(places.inputs[2].value),
          positions_(places.inputs[3].value),
          head_units_(kv_head_units(context.kv_dtype, state_.head_dim)),
          head_lanes_(context.kv_dtype == shaders::Dtype::q8_ ? 2 : head_units_) {
        kernel_ = context.pipelines.get(
            shaders::find_variant(firmware::OpCode::kv_write, context.kv_dtype,
                                  kv_access_of(context)),
            std::array{context.tuning.elementwise_lanes, context.page_positions});
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(k_.rows);
        const Dispatch dispatch{
            .kernel = kernel_,
            .push = {k_.unit, v_.unit, k_.stride, rows, positions_.word, context_.words.kv_tables,
                     state_.layer_units, context_.pool_positions, state_.kv_heads, state_.head_dim,
                     head_units_}};
        push_lanes(context_, std::uint64_t{rows} * state_.kv_heads * head_lanes_,
                   context_.tuning.elementwise_lanes, dispatch, out);
    }

   private:
    const Context& context_;
    StatePlace state_;
    ValuePlace k_;
    ValuePlace v_;
    ValuePlace positions_;
    std::uint32_t head_units_;
    std::uint32_t head_lanes_;  // keys and values
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_kv_write(const Context& context, const Places& places) {
    return std::make_unique<KvWrite>(context, places);
}

}  // namespace m4::ops
