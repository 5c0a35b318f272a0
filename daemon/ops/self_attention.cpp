// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

/// A lane keeps query and output of a whole head in registers.
constexpr std::uint32_t kWidestHead = 256;
/// Subgroups that share keys: unrolled for a head, so that a wide one takes long to compile.
constexpr std::uint32_t kWidestShared = 128;
constexpr std::uint32_t kSubgroup = 8;

class SelfAttention final : public Operator {
   public:
    SelfAttention(const Context& context, const Places& places)
        : context_(context),
          q_(places.inputs[0].value),
          k_(places.inputs[1].value),
          v_(places.inputs[2].value),
          y_(places.output),
          heads_(number(places.op, firmware::AttrId::heads)),
          kv_heads_(number(places.op, firmware::AttrId::kv_heads)),
          scale_(bits(places.op.real(firmware::AttrId::scale))) {
        const std::uint32_t head_dim = q_.columns / heads_;
        if (head_dim > kWidestHead) {
            throw vk::DeviceError("attention heads of " + std::to_string(head_dim) +
                                  " dimensions are wider than the kernels' " +
                                  std::to_string(kWidestHead));
        }
        const shaders::Access access = access_of(context, nullptr);
        shared_ = context.tuning.subgroup8 && context.limits.subgroup8 &&
                  access == shaders::Access::texel && head_dim <= kWidestShared &&
                  context.tuning.elementwise_lanes % kSubgroup == 0;
        const shaders::VariantInfo& variant =
            shared_ ? shaders::find_variant(firmware::OpCode::self_attention, shaders::Dtype::any_,
                                            access, 1, shaders::Needs::subgroup8)
                    : shaders::find_variant(firmware::OpCode::self_attention, shaders::Dtype::any_,
                                            access);
        const std::uint32_t causal = number(places.op, firmware::AttrId::causal);
        kernel_ = context.pipelines.get(
            variant, std::array{context.tuning.elementwise_lanes, head_dim, causal});
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(y_.rows);
        const Dispatch dispatch{
            .kernel = kernel_,
            .push = {q_.unit, k_.unit, v_.unit, y_.unit, y_.stride, k_.stride, rows, q_.rows.factor,
                     k_.rows.factor, heads_, kv_heads_, scale_}};
        std::uint64_t lanes = std::uint64_t{rows} * heads_;
        if (shared_) {
            const std::uint32_t item_rows = q_.rows.factor;
            lanes = std::uint64_t{divide_up(item_rows, kSubgroup)} * kSubgroup *
                    (rows / item_rows) * heads_;
        }
        push_lanes(context_, lanes, context_.tuning.elementwise_lanes, dispatch, out);
    }

   private:
    static std::uint32_t number(const firmware::Op& op, firmware::AttrId id) {
        return static_cast<std::uint32_t>(op.integer(id));
    }

    const Context& context_;
    ValuePlace q_;
    ValuePlace k_;
    ValuePlace v_;
    ValuePlace y_;
    std::uint32_t heads_;
    std::uint32_t kv_heads_;
    std::uint32_t scale_;
    bool shared_ = false;  ///< by subgroups
    vk::Kernel* kernel_ = nullptr;
};

}  // namespace

std::unique_ptr<Operator> make_self_attention(const Context& context, const Places& places) {
    return std::make_unique<SelfAttention>(context, places);
}

}  // namespace m4::ops
