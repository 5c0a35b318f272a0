// SPDX-License-Identifier: MIT
#include "plan.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "ops/fused.hpp"
#include "ops/low_rank.hpp"
#include "placement.hpp"

namespace m4::engine {

namespace {

using firmware::Operand;
using firmware::OperandKind;

constexpr std::uint64_t kValueAlignment = 256;
/// 64 MiB a position: more is a broken image, and no pool would hold it.
constexpr std::uint64_t kMostPositionUnits = 1U << 22;

bool in_arena(const firmware::Value& value) {
    return value.dtype == M4_DTYPE_F32;
}

std::uint32_t columns_of(const firmware::Value& value) {
    return value.dims.size() > 1 ? value.dims[1].factor : 1;
}

ops::StepShape largest_step(std::uint32_t max_rows) {
    return {.tokens = max_rows, .outputs = max_rows, .items = max_rows};
}

/// What an operator touches: bytes of the arena, and KV states.
struct Touch {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    bool state = false;  ///< [begin, end) counts states, not bytes

    [[nodiscard]] bool meets(const Touch& other) const {
        return state == other.state && begin < other.end && other.begin < end;
    }
};

struct Touches {
    std::vector<Touch> reads;
    std::vector<Touch> writes;
};

bool any_meet(std::span<const Touch> a, std::span<const Touch> b) {
    return std::any_of(a.begin(), a.end(), [&](const Touch& x) {
        return std::any_of(b.begin(), b.end(), [&](const Touch& y) { return x.meets(y); });
    });
}

/// Barriers by need: an operator waits when it reads or overwrites what was
/// written since the last barrier, or overwrites what was read since.
class BarrierTracker {
   public:
    bool needs_barrier(const Touches& touches) {
        const bool needed = any_meet(touches.reads, pending_.writes) ||
                            any_meet(touches.writes, pending_.writes) ||
                            any_meet(touches.writes, pending_.reads);
        if (needed) {
            pending_ = {};
        }
        pending_.reads.insert(pending_.reads.end(), touches.reads.begin(), touches.reads.end());
        pending_.writes.insert(pending_.writes.end(), touches.writes.begin(), touches.writes.end());
        return needed;
    }

   private:
    Touches pending_;
};

/// Of operators that run as one: what passes between them lies nowhere.
Touches touches_of(std::span<const firmware::Op> ops, const firmware::Program& program,
                   const ValueLayout& values, std::uint32_t max_rows) {
    Touches touches;
    std::set<std::uint32_t> defined;
    std::set<std::uint32_t> passed;
    for (const firmware::Op& op : ops) {
        for (const Operand& input : op.inputs) {
            if (input.kind == OperandKind::value && defined.count(input.index) != 0) {
                passed.insert(input.index);
            }
        }
        defined.insert(op.outputs.begin(), op.outputs.end());
    }
    const auto touch_value = [&](std::uint32_t index, std::vector<Touch>& into) {
        if (in_arena(program.values[index]) && passed.count(index) == 0) {
            const ops::ValuePlace& place = values.places[index];
            const std::uint64_t begin = place.unit * ops::kUnitBytes;
            const std::uint64_t rows = largest_step(max_rows).rows(place.rows);
            into.push_back({begin, begin + rows * place.stride * ops::kUnitBytes, false});
        }
    };
    for (const firmware::Op& op : ops) {
        for (const Operand& input : op.inputs) {
            if (input.kind == OperandKind::value) {
                touch_value(input.index, touches.reads);
            } else if (input.kind == OperandKind::state) {
                auto& into = op.code == firmware::OpCode::kv_write ? touches.writes : touches.reads;
                into.push_back({input.index, std::uint64_t{input.index} + 1, true});
            }
        }
        for (const std::uint32_t output : op.outputs) {
            touch_value(output, touches.writes);
        }
        if (op.code == firmware::OpCode::attention && values.scratch_units != 0) {
            const std::uint64_t begin = values.scratch_unit * ops::kUnitBytes;
            touches.writes.push_back(
                {begin, begin + values.scratch_units * ops::kUnitBytes, false});
        }
    }
    return touches;
}

ops::TensorBinding create_binding(const weights::TensorBuffer& buffer,
                                  hpp::DescriptorSetLayout layout, vk::Descriptors& descriptors) {
    ops::TensorBinding binding;
    binding.texel = static_cast<bool>(buffer.view);
    binding.storage = buffer.storage;
    binding.address = buffer.address;
    std::vector<vk::Binding> bindings;
    if (binding.texel) {
        bindings.push_back({0, hpp::DescriptorType::eUniformTexelBuffer, buffer.view});
    }
    if (binding.storage) {
        bindings.push_back({1,
                            hpp::DescriptorType::eStorageBuffer,
                            {},
                            buffer.buffer,
                            buffer.offset_bytes,
                            buffer.size_bytes});
    }
    binding.set = descriptors.create(layout, bindings);
    return binding;
}

/// The shape; how to read it is still to come.
ops::TensorPlace place_of(const firmware::Tensor& tensor) {
    ops::TensorPlace place;
    place.name = tensor.name;
    place.dtype = tensor.dtype;
    place.rows = static_cast<std::uint32_t>(tensor.rank > 1 ? tensor.shape[0] : 1);
    place.columns = static_cast<std::uint32_t>(tensor.shape[tensor.rank > 1 ? 1 : 0]);
    return place;
}

/// Sets for all tensors, their slices and the groups' spans.
std::uint32_t set_count(const firmware::Program& program, const weights::Store& weights) {
    std::size_t count = program.fusions.size() + 1;
    for (const std::uint32_t index : used_tensors(program)) {
        count += weights.slices(index).size();
    }
    return static_cast<std::uint32_t>(count);
}

/// Matrices of a group's linears, in order.
std::vector<std::uint32_t> matrices_of(std::span<const firmware::Op> ops) {
    std::vector<std::uint32_t> matrices;
    for (const firmware::Op& op : ops) {
        if (op.code == firmware::OpCode::linear) {
            matrices.push_back(op.inputs[1].index);
        }
    }
    return matrices;
}

/// What operators read and write, kept for as long as kernels are made of it.
struct OpPlaces {
    std::vector<std::vector<ops::Input>> inputs;
    std::vector<ops::Places> places;

    /// `linear`: of the program's linears, how many come before these operators.
    OpPlaces(std::span<const firmware::Op> ops, std::uint32_t linear, const ValueLayout& values,
             const KvShape& kv, const std::map<std::uint32_t, ops::TensorPlace>& tensors) {
        for (const firmware::Op& op : ops) {
            std::vector<ops::Input>& list = inputs.emplace_back();
            for (const Operand& operand : op.inputs) {
                ops::Input& input = list.emplace_back();
                input.kind = operand.kind;
                if (operand.kind == OperandKind::value) {
                    input.value = values.places[operand.index];
                } else if (operand.kind == OperandKind::tensor) {
                    input.tensor = tensors.at(operand.index);
                } else if (operand.kind == OperandKind::state) {
                    input.state = kv.states[operand.index];
                }
            }
        }
        for (std::size_t i = 0; i < ops.size(); ++i) {
            places.push_back(
                {ops[i], inputs[i],
                 ops[i].outputs.empty() ? ops::ValuePlace{} : values.places[ops[i].outputs[0]],
                 linear});
            linear += ops[i].code == firmware::OpCode::linear ? 1 : 0;
        }
    }
};

std::string_view operator_name(firmware::OpCode code) {
    const firmware::OpInfo* info = firmware::find_op(static_cast<std::uint16_t>(code));
    return info == nullptr ? "operator" : info->name;
}

std::string_view group_name(firmware::FusionKind kind) {
    switch (kind) {
        case firmware::FusionKind::projection:
            return "projection";
        case firmware::FusionKind::gated:
            return "gated";
        case firmware::FusionKind::residual:
            return "residual";
    }
    return "group";
}

/// "rms_norm, 3 linear": neighbours of one kind counted.
std::string operators_text(std::span<const firmware::Op> ops) {
    std::string text;
    for (std::size_t i = 0; i < ops.size();) {
        std::size_t end = i;
        while (end < ops.size() && ops[end].code == ops[i].code) {
            ++end;
        }
        text += text.empty() ? "" : ", ";
        text += end - i > 1 ? std::to_string(end - i) + " " : "";
        text += operator_name(ops[i].code);
        i = end;
    }
    return text;
}

/// By operator: first and last of the group that it is in, itself where in none.
std::vector<std::pair<std::size_t, std::size_t>> group_bounds(const firmware::Program& program) {
    std::vector<std::pair<std::size_t, std::size_t>> bounds;
    for (std::size_t i = 0; i < program.ops.size(); ++i) {
        bounds.emplace_back(i, i);
    }
    for (const firmware::Fusion& fusion : program.fusions) {
        std::fill_n(
            bounds.begin() + fusion.first, fusion.count,
            std::pair<std::size_t, std::size_t>(fusion.first, fusion.first + fusion.count - 1));
    }
    return bounds;
}

/// Of an input that the step buffer holds.
std::uint32_t word_of(firmware::Role role, const ops::StepWords& words) {
    switch (role) {
        case firmware::Role::token_ids:
            return words.token_ids;
        case firmware::Role::positions:
            return words.positions;
        case firmware::Role::memory_positions:
            return words.memory_positions;
        default:
            return words.output_rows;
    }
}

}  // namespace

std::vector<std::uint32_t> used_tensors(const firmware::Program& program) {
    std::set<std::uint32_t> used;
    for (const firmware::Op& op : program.ops) {
        for (const Operand& input : op.inputs) {
            if (input.kind == OperandKind::tensor) {
                used.insert(input.index);
            }
        }
    }
    return {used.begin(), used.end()};
}

shaders::Dtype dtype_of(KvType type) {
    switch (type) {
        case KvType::f32:
            return shaders::Dtype::f32_;
        case KvType::q8:
            return shaders::Dtype::q8_;
        case KvType::f16:
            break;
    }
    return shaders::Dtype::f16_;
}

KvShape kv_shape(const firmware::Program& program, shaders::Dtype kv_dtype) {
    KvShape shape;
    std::uint64_t units = 0;
    for (const firmware::State& state : program.states) {
        const std::uint64_t head_units = ops::kv_head_units(kv_dtype, state.head_dim);
        shape.states.push_back({static_cast<std::uint32_t>(units), state.kv_heads, state.head_dim});
        units += std::uint64_t{2} * state.kv_heads * head_units;  // keys and values
        if (units > kMostPositionUnits) {
            throw vk::DeviceError("the KV cache of one position takes more than " +
                                  std::to_string(kMostPositionUnits * ops::kUnitBytes) + " bytes");
        }
    }
    shape.position_units = static_cast<std::uint32_t>(units);
    return shape;
}

std::uint32_t port_value(std::span<const firmware::Port> ports, firmware::Role role) {
    for (const firmware::Port& port : ports) {
        if (port.role == role) {
            return port.value;
        }
    }
    throw vk::DeviceError("the program lacks the port of role " +
                          std::to_string(static_cast<unsigned>(role)));
}

ValueLayout lay_out_values(const firmware::Program& program, const ops::StepWords& words,
                           std::uint32_t max_rows) {
    // A group reads and writes at once: its values live from its first
    // operator to its last.
    const auto bounds = group_bounds(program);
    std::vector<Lifetime> lifetimes(program.values.size());
    for (std::size_t i = 0; i < program.ops.size(); ++i) {
        for (const Operand& input : program.ops[i].inputs) {
            if (input.kind == OperandKind::value) {
                lifetimes[input.index].last = bounds[i].second;
            }
        }
        for (const std::uint32_t output : program.ops[i].outputs) {
            lifetimes[output].first = bounds[i].first;
            lifetimes[output].last = bounds[i].second;
        }
    }
    for (const firmware::Port& port : program.outputs) {
        lifetimes[port.value].last = program.ops.size();
    }

    ValueLayout layout;
    layout.places.resize(program.values.size());
    for (std::size_t i = 0; i < program.values.size(); ++i) {
        const firmware::Value& value = program.values[i];
        ops::ValuePlace& place = layout.places[i];
        place.columns = columns_of(value);
        place.stride = ops::row_units(place.columns);
        place.rows = value.dims[0];
        if (in_arena(value)) {
            const bool symbolic = place.rows.symbol != firmware::Symbol::none;
            const std::uint64_t rows = std::uint64_t{place.rows.factor} * (symbolic ? max_rows : 1);
            lifetimes[i].size_bytes = rows * place.stride * ops::kUnitBytes;
        }
    }
    const Placement placement = place_values(lifetimes, kValueAlignment);
    for (std::size_t i = 0; i < program.values.size(); ++i) {
        layout.places[i].unit = static_cast<std::uint32_t>(placement.offsets[i] / ops::kUnitBytes);
    }
    for (const firmware::Port& port : program.inputs) {
        if (in_arena(program.values[port.value])) {
            continue;
        }
        ops::ValuePlace& place = layout.places[port.value];
        place.word = word_of(port.role, words);
    }
    layout.size_bytes = placement.size_bytes;
    return layout;
}

void add_scratch(ValueLayout& layout, const firmware::Program& program, std::uint32_t slices,
                 std::uint32_t max_rows, std::uint64_t most_units) {
    const std::uint32_t rows = std::min(max_rows, ops::Tuning{}.attention_many_rows - 1);
    std::uint64_t units = 0;
    for (const firmware::Op& op : program.ops) {
        if (op.code == firmware::OpCode::attention) {
            units =
                std::max(units, ops::attention_scratch(
                                    slices, rows,
                                    static_cast<std::uint32_t>(op.integer(firmware::AttrId::heads)),
                                    program.states[op.inputs[1].index].head_dim));
        }
    }
    const std::uint64_t first =
        (layout.size_bytes + kValueAlignment - 1) / kValueAlignment * kValueAlignment;
    if (units != 0 && first / ops::kUnitBytes + units <= most_units) {
        layout.scratch_unit = static_cast<std::uint32_t>(first / ops::kUnitBytes);
        layout.scratch_units = static_cast<std::uint32_t>(units);
        layout.size_bytes = first + units * ops::kUnitBytes;
    }
}

void add_low_rank(ValueLayout& layout, std::uint32_t max_rows, std::uint64_t most_units) {
    const std::uint64_t units = ops::low_rank_units(max_rows);
    const std::uint64_t first =
        (layout.size_bytes + kValueAlignment - 1) / kValueAlignment * kValueAlignment;
    if (first / ops::kUnitBytes + units <= most_units) {
        layout.low_rank_unit = static_cast<std::uint32_t>(first / ops::kUnitBytes);
        layout.size_bytes = first + units * ops::kUnitBytes;
    }
}

Plan::Plan(const vk::Device& device, const ops::Context& context, const firmware::Program& program,
           std::span<const firmware::Tensor> tensors, weights::Store& weights,
           const ValueLayout& values, const KvShape& kv)
    : pipelines_(context.pipelines),
      descriptors_(device, set_count(program, weights)),
      max_rows_(context.words.max_rows) {
    const hpp::DescriptorSetLayout set_layout = context.pipelines.tensor_layout();
    std::map<std::uint32_t, ops::TensorPlace> places;
    for (const std::uint32_t index : used_tensors(program)) {
        ops::TensorPlace place = place_of(tensors[index]);
        for (const weights::SliceBuffer& slice : weights.slices(index)) {
            place.slices.push_back({create_binding(slice.buffer, set_layout, descriptors_),
                                    slice.first_row, slice.rows});
        }
        if (place.slices.size() == 1) {
            place.binding = place.slices[0].binding;
        }
        places.emplace(index, place);
    }

    std::uint32_t linears = 0;  // before the operators at hand
    /// The group as one kernel, where it suits the device.
    const auto fuse = [&](const firmware::Fusion& fusion) -> ops::Fused {
        if (!context.tuning.fuse) {
            return {};
        }
        const auto group = std::span(program.ops).subspan(fusion.first, fusion.count);
        const std::vector<std::uint32_t> matrices = matrices_of(group);
        const auto buffer = weights.span(device, matrices);
        if (!buffer) {
            return {};
        }
        const OpPlaces of_ops(group, linears, values, kv, places);
        ops::SpanPlace span{place_of(tensors[matrices[0]]), {}};
        span.all.binding = create_binding(*buffer, set_layout, descriptors_);
        for (const std::uint32_t matrix : matrices) {
            span.units.push_back(static_cast<std::uint32_t>(
                (weights.slices(matrix)[0].buffer.offset_bytes - buffer->offset_bytes) /
                ops::kUnitBytes));
        }
        return ops::make_fused(context, {fusion.kind, of_ops.places, span});
    };

    BarrierTracker tracker;
    auto fusion = program.fusions.begin();
    for (std::size_t i = 0; i < program.ops.size();) {
        ops::Fused made;
        KernelName name;
        if (fusion != program.fusions.end() && fusion->first == i) {
            name.name = group_name(fusion->kind);
            made = fuse(*fusion++);
        }
        if (made.work == nullptr) {
            const OpPlaces one(std::span(program.ops).subspan(i, 1), linears, values, kv, places);
            made = {ops::factory(program.ops[i].code)(context, one.places[0]), 1};
            name.name = operator_name(program.ops[i].code);
        }
        const auto done = std::span(program.ops).subspan(i, made.op_count);
        name.operators = operators_text(done);
        Step step{std::move(made.work),
                  std::move(name),
                  {},
                  tracker.needs_barrier(touches_of(done, program, values, max_rows_))};
        for (const firmware::Op& op : done) {
            step.defines.insert(step.defines.end(), op.outputs.begin(), op.outputs.end());
            linears += op.code == firmware::OpCode::linear ? 1 : 0;
        }
        append(std::move(step));
        i += made.op_count;
    }
}

void Plan::append(Step step) {
    // The largest step asks for most: what the device refuses shows here.
    std::vector<ops::Dispatch> largest;
    step.work->dispatch(largest_step(max_rows_), largest);
    steps_.push_back(std::move(step));
}

std::vector<std::vector<ops::Dispatch>> Plan::dispatches_of(const ops::StepShape& shape) const {
    std::vector<std::vector<ops::Dispatch>> dispatches(steps_.size());
    std::vector<vk::Kernel*> kernels;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        steps_[i].work->dispatch(shape, dispatches[i]);
        for (const ops::Dispatch& dispatch : dispatches[i]) {
            kernels.push_back(dispatch.kernel);
        }
    }
    pipelines_.compile(kernels);
    return dispatches;
}

void Plan::record(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                  std::uint32_t value, const Behind& after) const {
    const auto dispatches = dispatches_of(shape);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        const Step& step = steps_[i];
        if (step.barrier_before) {
            ops::record_barrier(commands);
        }
        ops::record(commands, pipelines_.layout(), dispatches[i]);
        if (after && std::count(step.defines.begin(), step.defines.end(), value) != 0) {
            after(commands);
        }
    }
}

void Plan::record_apart(const hpp::raii::CommandBuffer& commands, const ops::StepShape& shape,
                        const AfterKernel& after) const {
    const auto dispatches = dispatches_of(shape);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
        ops::record_barrier(commands);
        ops::record(commands, pipelines_.layout(), dispatches[i]);
        after(steps_[i].name, static_cast<std::uint32_t>(dispatches[i].size()));
    }
}

std::size_t Plan::barrier_count() const {
    return static_cast<std::size_t>(std::count_if(
        steps_.begin(), steps_.end(), [](const Step& step) { return step.barrier_before; }));
}

}  // namespace m4::engine
