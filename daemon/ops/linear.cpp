// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

/// Tiles of 8 rows of the step, then one smaller tile that holds the rest.
class Linear final : public Operator {
   public:
    Linear(const Context& context, const Places& places)
        : context_(context),
          x_(places.inputs[0].value),
          y_(places.output),
          weight_(places.inputs[1].tensor.set),
          second_(weight_) {
        const TensorPlace& weight = places.inputs[1].tensor;
        const TensorPlace* bias = nullptr;
        if (places.inputs.size() > 2 && places.inputs[2].kind == firmware::OperandKind::tensor) {
            bias = &places.inputs[2].tensor;
            second_ = bias->set;
            has_bias_ = 1;
        }
        const shaders::Dtype dtype = dtype_of(weight);
        const shaders::Access access = access_of(context, &weight, bias);
        blocks_ = block_shape(weight);
        const bool subgroup8 = context.limits.subgroup8 && access == shaders::Access::texel &&
                               context.tuning.linear_split == 1 &&
                               context.tuning.linear_lanes % 8 == 0;
        const auto needs = subgroup8 ? shaders::Needs::subgroup8 : shaders::Needs::nothing;
        const std::array constants = {context.tuning.linear_lanes, context.tuning.linear_split};
        for (std::size_t i = 0; i < kTiles.size(); ++i) {
            pipelines_[i] = context.pipelines.get(
                shaders::find_variant(firmware::OpCode::linear, dtype, access, kTiles[i], needs),
                constants);
        }
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(y_.rows);
        const std::uint32_t whole = rows - rows % kTiles.back();
        push(kTiles.size() - 1, 0, whole, out);
        const std::uint32_t rest = rows - whole;
        for (std::size_t i = 0; i < kTiles.size() && rest != 0; ++i) {
            if (rest <= kTiles[i]) {
                push(i, whole, rows, out);
                break;
            }
        }
    }

   private:
    static constexpr std::array<std::uint32_t, 3> kTiles = {1, 4, 8};

    /// Rows [first, end) in tiles of kind i.
    void push(std::size_t i, std::uint32_t first, std::uint32_t end,
              std::vector<Dispatch>& out) const {
        const Dispatch dispatch{
            .pipeline = pipelines_[i],
            .tensor = weight_,
            .second = second_,
            .push = {x_.unit, x_.stride, y_.unit, y_.stride, blocks_.group_units, blocks_.blocks,
                     blocks_.tail_units, y_.columns, first, end, has_bias_},
            .groups_y = divide_up(end - first, kTiles[i])};
        const Tuning& tuning = context_.tuning;
        push_lanes(context_, std::uint64_t{y_.stride} * tuning.linear_split, tuning.linear_lanes,
                   dispatch, out);
    }

    const Context& context_;
    ValuePlace x_;
    ValuePlace y_;
    hpp::DescriptorSet weight_;
    hpp::DescriptorSet second_;
    std::uint32_t has_bias_ = 0;
    BlockShape blocks_;
    std::array<hpp::Pipeline, kTiles.size()> pipelines_;
};

}  // namespace

std::unique_ptr<Operator> make_linear(const Context& context, const Places& places) {
    return std::make_unique<Linear>(context, places);
}

}  // namespace m4::ops
