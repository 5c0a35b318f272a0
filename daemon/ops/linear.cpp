// SPDX-License-Identifier: MIT
#include "linear.hpp"

#include <cstring>
#include <utility>

#include "low_rank.hpp"

namespace m4::ops {

namespace {

constexpr std::uint32_t kQuadRows = 4;

/// linear.comp's push constants.
struct Push {
    std::uint32_t x_offset, x_stride, t_first, t_end;
    std::uint32_t group_units, blocks, tail_units, x_columns;
    struct {
        std::uint32_t weight_offset, quads, y_offset;
    } parts[3];
    std::uint32_t y_stride, first_quad, columns, added_offset, eps;
    std::uint32_t positions_word, head_dim, rotated, fine_rows, turns;
    std::uint32_t tables_word, layer_units, pool_positions;
    std::uint32_t weight_address[2];
};
static_assert(sizeof(Push) <= vk::Pipelines::kPushBytes);

/// Quads of a row that are a unit of the KV pool; 0: a lane holds too little of
/// what shares a scale.
std::uint32_t kept_quads(shaders::Dtype kv_dtype) {
    return kv_dtype == shaders::Dtype::f32_ ? 1 : kv_dtype == shaders::Dtype::f16_ ? 2 : 0;
}

std::optional<shaders::Access> access_of(const Context& context, const LinearJob& job) {
    auto access = find_access(context, {&job.weight, job.norm, job.bias, job.table});
    if (access == shaders::Access::texel && context.tuning.linear_address &&
        job.weight.binding.address != 0) {
        access = shaders::Access::address;
    }
    return access;
}

/// Tiles of 8 rows of the step, then one smaller tile that holds the rest. The
/// larger the tile, the longer a driver compiles it: see Context::cold.
class Linear final : public Operator {
   public:
    Linear(const Context& context, const LinearJob& job, shaders::Access access)
        : context_(context), rows_(job.parts[0].y.rows), low_rank_(context, job, access) {
        const TensorPlace* second = job.norm != nullptr ? job.norm : job.bias;
        dispatch_.tensor = job.weight.binding.set;
        dispatch_.second = second != nullptr ? second->binding.set : hpp::DescriptorSet{};
        dispatch_.third = job.table != nullptr ? job.table->binding.set : hpp::DescriptorSet{};
        fill_push(job);
        choose_kernels(job, access);
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(rows_);
        const StepShape* const adapted = low_rank_.dispatch(shape, out) ? &shape : nullptr;
        if (context_.cold) {
            push(rows == 1 ? 0 : 1, 0, rows, adapted, out);
            return;
        }
        const std::uint32_t whole = rows - rows % kTiles.back();
        push(kTiles.size() - 1, 0, whole, adapted, out);
        const std::uint32_t rest = rows - whole;
        for (std::size_t i = 0; i < kTiles.size() && rest != 0; ++i) {
            if (rest <= kTiles[i]) {
                push(i, whole, rows, adapted, out);
                break;
            }
        }
    }

   private:
    static constexpr std::array<std::uint32_t, 3> kTiles = {1, 4, 8};

    void fill_push(const LinearJob& job) {
        const BlockShape blocks = block_shape(job.weight);
        push_.x_offset = job.x.unit;
        push_.x_stride = job.x.stride;
        push_.group_units = blocks.group_units;
        push_.blocks = blocks.blocks;
        push_.tail_units = blocks.tail_units;
        push_.x_columns = job.x.columns;
        const bool gate = job.epilogue == LinearJob::Epilogue::gate;
        for (std::size_t i = 0; i < job.parts.size(); ++i) {
            const LinearJob::Part& part = job.parts[i];
            const std::uint32_t quads = job.quads != 0 ? job.quads : part.y.stride;
            push_.parts[i] = {part.weight_unit, quads, part.y.unit};
            push_.turns |= part.turns ? 1U << i : 0U;
            quads_ += gate && i != 0 ? 0 : quads;
        }
        push_.y_stride = job.parts[0].y.stride;
        push_.first_quad = job.first_quad;
        push_.columns = job.bias != nullptr ? job.parts[0].y.columns : 0;
        push_.added_offset = job.added_unit;
        push_.eps = job.eps;
        push_.positions_word = job.positions_word;
        push_.head_dim = job.head_dim;
        push_.rotated = job.table != nullptr ? job.table->columns : 0;
        push_.fine_rows = job.fine_rows;
        if (job.kept) {
            push_.turns |= 1U << (8 + job.kept->keys) | 1U << (16 + job.kept->values);
            push_.tables_word = context_.words.kv_tables;
            push_.layer_units = job.kept->layer_units;
            push_.pool_positions = context_.pool_positions;
        }
        std::memcpy(push_.weight_address, &job.weight.binding.address,
                    sizeof(push_.weight_address));
    }

    void choose_kernels(const LinearJob& job, shaders::Access access) {
        const Tuning& tuning = context_.tuning;
        const bool subgroup8 = tuning.subgroup8 && context_.limits.subgroup8 &&
                               access == shaders::Access::texel && tuning.linear_split == 1 &&
                               tuning.linear_lanes % 8 == 0;
        const auto needs = subgroup8 ? shaders::Needs::subgroup8 : shaders::Needs::nothing;
        constants_ = {tuning.linear_lanes,
                      tuning.linear_split,
                      job.norm != nullptr ? 1U : 0U,
                      static_cast<std::uint32_t>(job.parts.size()),
                      static_cast<std::uint32_t>(job.epilogue),
                      job.kept ? kept_quads(context_.kv_dtype) : 0U,
                      job.kept ? context_.page_positions : 1U,
                      0,
                      context_.low_rank_unit,
                      0};
        for (std::size_t i = 0; i < kTiles.size(); ++i) {
            variants_[i] = &shaders::find_variant(firmware::OpCode::linear, dtype_of(job.weight),
                                                  access, kTiles[i], needs);
            kernels_[i] = context_.pipelines.get(*variants_[i], constants_);
        }
    }

    /// For steps with adapters.
    [[nodiscard]] vk::Kernel* adapted_kernel(std::size_t i, const StepShape& shape) const {
        auto constants = constants_;
        constants[7] = shape.rank;
        constants[9] = shape.forms;
        return context_.pipelines.get(*variants_[i], constants);
    }

    /// Rows [first, end) in tiles of kind i; `adapted`: null, or the step whose adapters
    /// they have.
    void push(std::size_t i, std::uint32_t first, std::uint32_t end, const StepShape* adapted,
              std::vector<Dispatch>& out) const {
        Dispatch dispatch = dispatch_;
        dispatch.kernel = adapted != nullptr ? adapted_kernel(i, *adapted) : kernels_[i];
        dispatch.after_barrier = adapted != nullptr && first == 0;
        dispatch.groups_y = divide_up(end - first, kTiles[i]);
        Push push = push_;
        push.t_first = first;
        push.t_end = end;
        std::memcpy(dispatch.push.data(), &push, sizeof(push));
        const Tuning& tuning = context_.tuning;
        push_lanes(context_, std::uint64_t{quads_} * tuning.linear_split, tuning.linear_lanes,
                   dispatch, out);
    }

    const Context& context_;
    firmware::Dim rows_;
    Dispatch dispatch_;  // what all have alike
    Push push_{};
    std::uint32_t quads_ = 0;
    LowRank low_rank_;
    std::array<vk::Kernel*, kTiles.size()> kernels_{};
    std::array<const shaders::VariantInfo*, kTiles.size()> variants_{};
    std::array<std::uint32_t, 10> constants_{};
};

/// A matrix that no binding holds whole: one job a slice of its rows.
class Slices final : public Operator {
   public:
    explicit Slices(std::vector<std::unique_ptr<Operator>> slices) : slices_(std::move(slices)) {}

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        for (const auto& slice : slices_) {
            slice->dispatch(shape, out);
        }
    }

   private:
    std::vector<std::unique_ptr<Operator>> slices_;
};

}  // namespace

std::unique_ptr<Operator> make_linear_job(const Context& context, const LinearJob& job) {
    const auto access = access_of(context, job);
    return access ? std::make_unique<Linear>(context, job, *access) : nullptr;
}

bool can_keep(const Context& context, const LinearJob& job, const StatePlace& state) {
    const std::uint32_t quads = kept_quads(context.kv_dtype);
    const auto access = access_of(context, job);
    const Tuning& tuning = context.tuning;
    return quads != 0 && access && (*access != shaders::Access::storage) == context.kv_texel &&
           state.head_dim % (quads * kQuadRows) == 0 &&
           tuning.linear_lanes / tuning.linear_split % quads == 0;
}

std::unique_ptr<Operator> make_linear(const Context& context, const Places& places) {
    const TensorPlace& weight = places.inputs[1].tensor;
    LinearJob job;
    job.x = places.inputs[0].value;
    job.first_linear = places.linear;
    job.parts = {{0, places.output}};
    if (places.inputs[2].kind == firmware::OperandKind::tensor) {
        job.bias = &places.inputs[2].tensor;
    }
    std::vector<std::unique_ptr<Operator>> made;
    for (const TensorSlice& slice : weight.slices) {
        job.weight = weight;
        job.weight.binding = slice.binding;
        job.first_quad = slice.first_row / kQuadRows;
        const bool last = &slice == &weight.slices.back();
        job.quads = last ? places.output.stride - job.first_quad : slice.rows / kQuadRows;
        made.push_back(make_linear_job(context, job));
        if (made.back() == nullptr) {
            refuse_access(weight);
        }
    }
    return made.size() == 1 ? std::move(made[0]) : std::make_unique<Slices>(std::move(made));
}

}  // namespace m4::ops
