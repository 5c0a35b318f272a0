// SPDX-License-Identifier: MIT
#include "operator.hpp"

namespace m4::ops {

namespace {

/// A lane keeps query and output of a whole head in registers.
constexpr std::uint32_t kWidestHead = 256;
constexpr std::uint32_t kVec = 4;

/// Few rows: many lanes share a pair of row and head, so that one token keeps
/// the device busy. Many rows: fewer lanes share one, as merging costs.
class Attention final : public Operator {
   public:
    Attention(const Context& context, const Places& places)
        : context_(context),
          q_(places.inputs[0].value),
          state_(places.inputs[1].state),
          positions_(places.inputs[2].value),
          y_(places.output),
          heads_(static_cast<std::uint32_t>(places.op.integer(firmware::AttrId::heads))),
          scale_(bits(places.op.real(firmware::AttrId::scale))) {
        if (state_.head_dim > kWidestHead) {
            throw vk::DeviceError("attention heads of " + std::to_string(state_.head_dim) +
                                  " dimensions are wider than the kernels' " +
                                  std::to_string(kWidestHead));
        }
        few_ = kernel(context.tuning.attention_split_few);
        many_ = kernel(context.tuning.attention_split_many);
        const std::uint32_t slices = context.tuning.attention_slices;
        if (slices > 1) {
            sliced_ = kernel(context.tuning.attention_split_few, slices);
            merge_ = context.pipelines.get(
                shaders::find_variant(shaders::kAttentionMerge, shaders::Dtype::any_,
                                      access_of(context, nullptr)),
                std::array{context.tuning.elementwise_lanes, slices, state_.head_dim});
        }
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(y_.rows);
        const Tuning& tuning = context_.tuning;
        const bool many = rows >= tuning.attention_many_rows;
        Dispatch dispatch{.kernel = many ? many_ : few_,
                          .push = {q_.unit, y_.unit, y_.stride, rows, heads_, state_.kv_heads,
                                   positions_.word, context_.words.kv_tables, state_.layer_units,
                                   context_.pool_positions, scale_, context_.scratch_unit}};
        const std::uint32_t split = many ? tuning.attention_split_many : tuning.attention_split_few;
        const bool sliced = !many && sliced_ != nullptr && takes(rows) <= context_.scratch_units;
        if (sliced) {
            dispatch.kernel = sliced_;
            dispatch.groups_y = tuning.attention_slices;
        }
        push_lanes(context_, std::uint64_t{rows} * heads_ * split, tuning.attention_lanes, dispatch,
                   out);
        if (sliced) {
            const Dispatch merge{.kernel = merge_,
                                 .push = {context_.scratch_unit, y_.unit, y_.stride, rows, heads_},
                                 .after_barrier = true};
            push_lanes(context_, std::uint64_t{rows} * heads_ * divide_up(state_.head_dim, kVec),
                       tuning.elementwise_lanes, merge, out);
        }
    }

   private:
    [[nodiscard]] std::uint64_t takes(std::uint32_t rows) const {
        return attention_scratch(context_.tuning.attention_slices, rows, heads_, state_.head_dim);
    }

    [[nodiscard]] vk::Kernel* kernel(std::uint32_t split, std::uint32_t slices = 1) const {
        constexpr std::uint32_t kSubgroup = 8;
        const shaders::Access access = kv_access_of(context_);
        const std::uint32_t lanes = context_.tuning.attention_lanes;
        const bool subgroup8 = context_.tuning.subgroup8 && context_.limits.subgroup8 &&
                               access == shaders::Access::texel && split == kSubgroup &&
                               lanes % kSubgroup == 0;
        const shaders::VariantInfo& variant =
            shaders::find_variant(firmware::OpCode::attention, context_.kv_dtype, access, 1,
                                  subgroup8 ? shaders::Needs::subgroup8 : shaders::Needs::nothing);
        return context_.pipelines.get(
            variant, std::array{lanes, split, state_.head_dim, context_.page_positions,
                                std::uint32_t{context_.tuning.shift_halves}, slices});
    }

    const Context& context_;
    ValuePlace q_;
    StatePlace state_;
    ValuePlace positions_;
    ValuePlace y_;
    std::uint32_t heads_;
    std::uint32_t scale_;
    vk::Kernel* few_ = nullptr;
    vk::Kernel* many_ = nullptr;
    vk::Kernel* sliced_ = nullptr;  ///< of few rows
    vk::Kernel* merge_ = nullptr;
};

}  // namespace

std::uint64_t attention_scratch(std::uint32_t slices, std::uint32_t rows, std::uint32_t heads,
                                std::uint32_t head_dim) {
    const std::uint64_t units = 1 + divide_up(head_dim, kVec);  // maximum and sum, output
    return slices > 1 ? units * slices * rows * heads : 0;
}

std::unique_ptr<Operator> make_attention(const Context& context, const Places& places) {
    return std::make_unique<Attention>(context, places);
}

}  // namespace m4::ops
