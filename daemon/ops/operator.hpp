// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/image.hpp"
#include "step_memory.hpp"
#include "tuning.hpp"
#include "vk/pipelines.hpp"

/// Operators as dispatches. An operator is made once, at plan time, from its
/// row of the program and the places of its operands: it picks kernels then.
/// For each shape of a step it says what to dispatch.
namespace m4::ops {

/// The symbolic dimensions of a step.
struct StepShape {
    std::uint32_t tokens = 0;
    std::uint32_t outputs = 0;
    std::uint32_t greedy = 0;   ///< of the outputs, the last: only their best token is wanted
    std::uint32_t chain = 1;    ///< passes, each on the tokens that the one before chose
    std::uint32_t items = 0;    ///< inputs of an encoder
    std::uint32_t top = 0;      ///< of the outputs, before the greedy ones: candidates are wanted
    std::uint32_t rank = 0;     ///< that no adapter of a row exceeds; 0: no row has one
    std::uint32_t forms = 0;    ///< of the adapters: 1 with halves, 2 with floats, 3 with both
    std::uint32_t covered = 0;  ///< linears that have any: index into Context::covered

    [[nodiscard]] std::uint32_t rows(const firmware::Dim& dim) const {
        switch (dim.symbol) {
            case firmware::Symbol::tokens:
                return dim.factor * tokens;
            case firmware::Symbol::outputs:
                return dim.factor * outputs;
            case firmware::Symbol::items:
                return dim.factor * items;
            case firmware::Symbol::none:
                break;
        }
        return dim.factor;
    }
    auto operator<=>(const StepShape&) const = default;
};

/// A value: F32 in the arena, or U32 in the step buffer.
struct ValuePlace {
    std::uint32_t unit = 0;    ///< F32: first unit in the arena
    std::uint32_t stride = 0;  ///< F32: units of a row
    std::uint32_t columns = 0;
    std::uint32_t word = 0;  ///< U32: first word in the step buffer
    firmware::Dim rows;
};

/// What a kernel reads tensors through: a descriptor set, by the ways it has.
struct TensorBinding {
    hpp::DescriptorSet set;
    bool texel = false;
    bool storage = false;
    std::uint64_t address = 0;  ///< of its begin; 0: the device knows none
};

/// Rows of a tensor in a binding of their own.
struct TensorSlice {
    TensorBinding binding;
    std::uint32_t first_row = 0;
    std::uint32_t rows = 0;
};

/// A tensor and how to read it.
struct TensorPlace {
    std::string_view name;
    m4_dtype dtype = M4_DTYPE_F32;
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;  ///< of a vector: its length
    TensorBinding binding;      ///< of the whole; of none of the ways where it is cut up
    /// One of all rows, or several where no binding of the device is so large.
    std::vector<TensorSlice> slices;
};

/// One layer's KV cache.
struct StatePlace {
    std::uint32_t layer_units = 0;  ///< units a position takes in the layers before
    std::uint32_t kv_heads = 0;
    std::uint32_t head_dim = 0;
};

/// An input of an operator: the one that its kind says.
struct Input {
    firmware::OperandKind kind = firmware::OperandKind::none;
    ValuePlace value;
    TensorPlace tensor;
    StatePlace state;
};

/// What an operator is made from. `op` is valid during construction only.
struct Places {
    const firmware::Op& op;
    std::span<const Input> inputs;
    ValuePlace output;         ///< where the operator has one
    std::uint32_t linear = 0;  ///< of a linear: which of the program's it is
};

/// What all operators of a plan share; outlives them.
struct Context {
    vk::Pipelines& pipelines;
    const vk::Limits& limits;
    Tuning tuning;
    StepWords words;
    shaders::Dtype kv_dtype = shaders::Dtype::f16_;
    bool values_texel = true;
    bool kv_texel = true;
    std::uint32_t page_positions = 0;  ///< of a page of the KV pool
    std::uint32_t pool_positions = 0;  ///< of all its pages
    /// Of the arena, for what operators keep between their own dispatches.
    std::uint32_t scratch_unit = 0;
    std::uint32_t scratch_units = 0;
    /// Of the arena, for what rows' adapters make of x (low_rank.hpp); 0: rows have none.
    std::uint32_t low_rank_unit = 0;
    /// By StepShape::covered, which of the program's linears. Its owner appends.
    const std::vector<std::vector<bool>>* covered = nullptr;
    /// Make do with the kernels that a driver compiles soonest. The plan's
    /// owner may change it between recordings.
    bool cold = false;
};

struct Dispatch {
    vk::Kernel* kernel = nullptr;
    hpp::DescriptorSet tensor{};  ///< set 1; null: the kernel reads no tensor
    hpp::DescriptorSet second{};  ///< set 2; null: like set 1
    hpp::DescriptorSet third{};   ///< set 3; likewise
    std::array<std::uint32_t, vk::Pipelines::kPushBytes / 4> push{};
    std::uint32_t groups_x = 0;
    std::uint32_t groups_y = 1;
    bool after_barrier = false;  ///< it reads what the dispatches before it wrote
};

class Operator {
   public:
    virtual ~Operator() = default;
    /// Appends what to run for a step of this shape; nothing for no rows. The
    /// dispatches do not depend on one another, save as after_barrier says. Throws vk::DeviceError
    /// where the device cannot start so many workgroups.
    virtual void dispatch(const StepShape& shape, std::vector<Dispatch>& out) const = 0;
};

using Factory = std::unique_ptr<Operator> (*)(const Context& context, const Places& places);

/// The factory of an operator, from ops.def. Each is defined in <name>.cpp.
[[nodiscard]] Factory factory(firmware::OpCode code);

#define M4_OP(code, name, inputs, outputs, attributes, summary) \
    std::unique_ptr<Operator> make_##name(const Context& context, const Places& places);
#include "ops.def"

/// Between kernels: writes before are seen by reads and writes after.
void record_barrier(const hpp::raii::CommandBuffer& commands);

/// Record dispatches; their kernels are compiled, and set 0 is bound.
void record(const hpp::raii::CommandBuffer& commands, hpp::PipelineLayout layout,
            std::span<const Dispatch> dispatches);

// For the operators' own files.

[[nodiscard]] constexpr std::uint32_t divide_up(std::uint32_t a, std::uint32_t b) {
    return (a + b - 1) / b;
}
[[nodiscard]] inline std::uint32_t bits(double real) {
    return std::bit_cast<std::uint32_t>(static_cast<float>(real));
}
/// Of a stored tensor.
[[nodiscard]] shaders::Dtype dtype_of(const TensorPlace& tensor);
/// Elements of a 16-byte unit of full floats.
[[nodiscard]] constexpr std::uint32_t unit_elements(shaders::Dtype dtype) {
    return dtype == shaders::Dtype::f16_ ? 8 : 4;
}
/// Units of a head's keys, or of its values, in the KV pool (kv.glsl).
[[nodiscard]] constexpr std::uint32_t kv_head_units(shaders::Dtype dtype, std::uint32_t head_dim) {
    if (dtype != shaders::Dtype::q8_) {
        return divide_up(head_dim, unit_elements(dtype));
    }
    constexpr std::uint32_t kElements = 16;
    constexpr std::uint32_t kScaledUnits = 8;  // whose scales fill a unit
    const std::uint32_t units = divide_up(head_dim, kElements);
    return units + divide_up(units, kScaledUnits);
}
/// Units of the arena that attention over slices of a context takes, at most.
[[nodiscard]] std::uint64_t attention_scratch(std::uint32_t slices, std::uint32_t rows,
                                              std::uint32_t heads, std::uint32_t head_dim);
/// A ROWS16 matrix as kernels walk it: whole blocks of 32 columns, then units.
struct BlockShape {
    std::uint32_t group_units = 0;  ///< of 16 rows
    std::uint32_t blocks = 0;
    std::uint32_t tail_units = 0;  ///< of a row, behind its blocks
};
[[nodiscard]] BlockShape block_shape(const TensorPlace& tensor);
/// How a kernel over values and these tensors (null: none) reads; nothing
/// where no way serves them all.
[[nodiscard]] std::optional<shaders::Access> find_access(
    const Context& context, std::initializer_list<const TensorPlace*> tensors);
/// The same for one tensor; throws vk::DeviceError where there is no way.
[[nodiscard]] shaders::Access access_of(const Context& context, const TensorPlace* tensor);
/// Throws vk::DeviceError: no way to read this tensor and what goes with it.
[[noreturn]] void refuse_access(const TensorPlace& tensor);
/// Likewise over values and the KV pool.
[[nodiscard]] shaders::Access kv_access_of(const Context& context);
/// Append a dispatch of `lane_count` lanes in groups of `group_lanes`.
void push_lanes(const Context& context, std::uint64_t lane_count, std::uint32_t group_lanes,
                Dispatch dispatch, std::vector<Dispatch>& out);

}  // namespace m4::ops
