// SPDX-License-Identifier: MIT
#include <limits>

#include "operator.hpp"

namespace m4::ops {

namespace {

/// From a tensor in slices: one dispatch a slice, each for the rows it holds.
class GatherRows final : public Operator {
   public:
    GatherRows(const Context& context, const Places& places)
        : context_(context), rows_(places.inputs[1].value), y_(places.output) {
        const Input& data = places.inputs[0];
        if (data.kind == firmware::OperandKind::value) {
            offset_ = data.value.unit;
            stride_ = data.value.stride;
            slices_.push_back({kernel(shaders::Dtype::any_, access_of(context, nullptr)),
                               {{}, 0, std::numeric_limits<std::uint32_t>::max()}});
            return;
        }
        TensorPlace tensor = data.tensor;
        stride_ = block_shape(tensor).group_units;
        for (const TensorSlice& slice : data.tensor.slices) {
            tensor.binding = slice.binding;
            slices_.push_back({kernel(dtype_of(tensor), access_of(context, &tensor)), slice});
        }
    }

    void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const override {
        const std::uint32_t rows = shape.rows(y_.rows);
        for (const Slice& slice : slices_) {
            const Dispatch dispatch{.kernel = slice.kernel,
                                    .tensor = slice.data.binding.set,
                                    .push = {offset_, stride_, y_.unit, y_.stride, rows, rows_.word,
                                             y_.columns, slice.data.first_row, slice.data.rows}};
            push_lanes(context_, std::uint64_t{rows} * y_.stride, context_.tuning.elementwise_lanes,
                       dispatch, out);
        }
    }

   private:
    struct Slice {
        vk::Kernel* kernel = nullptr;
        TensorSlice data;
    };

    [[nodiscard]] vk::Kernel* kernel(shaders::Dtype dtype, shaders::Access access) const {
        return context_.pipelines.get(
            shaders::find_variant(firmware::OpCode::gather_rows, dtype, access),
            std::array{context_.tuning.elementwise_lanes});
    }

    const Context& context_;
    ValuePlace rows_;
    ValuePlace y_;
    std::uint32_t offset_ = 0;
    std::uint32_t stride_ = 0;
    std::vector<Slice> slices_;
};

}  // namespace

std::unique_ptr<Operator> make_gather_rows(const Context& context, const Places& places) {
    return std::make_unique<GatherRows>(context, places);
}

}  // namespace m4::ops
