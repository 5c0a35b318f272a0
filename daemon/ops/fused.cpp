// SPDX-License-Identifier: MIT
#include "fused.hpp"

#include <algorithm>
#include <utility>

#include "linear.hpp"

namespace m4::ops {

namespace {

using firmware::AttrId;
using firmware::OpCode;

constexpr std::uint32_t kVec = 4;

/// The group's last operator, where the kernel can store as it computes.
bool take_kv_write(const Context& context, const Places& write,
                   std::span<const std::uint32_t> values, LinearJob& job) {
    const StatePlace& state = write.inputs[0].state;
    const bool turns = job.epilogue == LinearJob::Epilogue::rotate;
    if ((turns && job.head_dim != state.head_dim) || !can_keep(context, job, state)) {
        return false;
    }
    const auto part_of = [&](std::size_t slot) {
        return static_cast<std::uint32_t>(
            std::find(values.begin(), values.end(), write.op.inputs[slot].index) - values.begin());
    };
    job.kept = {part_of(1), part_of(2), state.layer_units};
    job.head_dim = state.head_dim;
    job.positions_word = write.inputs[3].value.word;
    return job.kept->keys != job.kept->values;
}

/// Norm and the linears behind it: `job` but for its epilogue. False where
/// the matrices differ in type.
bool take_normed_linears(const GroupPlaces& group, LinearJob& job) {
    const Places& norm = group.ops[0];
    job.x = norm.inputs[0].value;
    job.norm = &norm.inputs[1].tensor;
    job.eps = bits(norm.op.real(AttrId::eps));
    job.weight = group.weights.all;
    job.first_linear = group.ops[1].linear;
    for (std::size_t i = 0; i < group.weights.units.size(); ++i) {
        const Places& linear = group.ops[1 + i];
        if (linear.inputs[1].tensor.dtype != job.weight.dtype) {
            return false;
        }
        job.parts.push_back({group.weights.units[i], linear.output});
    }
    return true;
}

Fused projection(const Context& context, const GroupPlaces& group) {
    LinearJob job;
    if (!take_normed_linears(group, job)) {
        return {};
    }
    std::vector<std::uint32_t> values;  // by part: what it has computed so far
    for (std::size_t i = 0; i < job.parts.size(); ++i) {
        values.push_back(group.ops[1 + i].op.outputs[0]);
    }
    std::size_t count = 1 + job.parts.size();
    for (; count < group.ops.size() && group.ops[count].op.code == OpCode::rope; ++count) {
        const Places& rope = group.ops[count];
        const TensorPlace& table = rope.inputs[2].tensor;
        job.epilogue = LinearJob::Epilogue::rotate;
        job.table = &table;
        job.positions_word = rope.inputs[1].value.word;
        job.head_dim = static_cast<std::uint32_t>(rope.op.integer(AttrId::head_dim));
        job.fine_rows = static_cast<std::uint32_t>(rope.op.integer(AttrId::fine_rows));
        if (job.head_dim % kVec != 0 || table.columns % kVec != 0) {
            return {};
        }
        const auto turned = static_cast<std::size_t>(
            std::find(values.begin(), values.end(), rope.op.inputs[0].index) - values.begin());
        values.at(turned) = rope.op.outputs[0];
        job.parts.at(turned).y = rope.output;
        job.parts.at(turned).turns = true;
    }
    if (count < group.ops.size() && group.ops[count].op.code == OpCode::kv_write) {
        LinearJob stored = job;
        if (take_kv_write(context, group.ops[count], values, stored)) {
            return {make_linear_job(context, stored), count + 1};
        }
    }
    return {make_linear_job(context, job), count};
}

Fused gated(const Context& context, const GroupPlaces& group) {
    LinearJob job;
    if (!take_normed_linears(group, job)) {
        return {};
    }
    job.epilogue = LinearJob::Epilogue::gate;
    job.parts[0].y = group.ops[4].output;
    return {make_linear_job(context, job), group.ops.size()};
}

Fused residual(const Context& context, const GroupPlaces& group) {
    const Places& linear = group.ops[0];
    const Places& add = group.ops[1];
    LinearJob job;
    job.x = linear.inputs[0].value;
    job.weight = group.weights.all;
    job.first_linear = linear.linear;
    job.parts = {{group.weights.units[0], add.output}};
    if (linear.inputs[2].kind == firmware::OperandKind::tensor) {
        job.bias = &linear.inputs[2].tensor;
    }
    const bool first = add.op.inputs[0].index == linear.op.outputs[0];
    job.epilogue = LinearJob::Epilogue::add;
    job.added_unit = add.inputs[first ? 1 : 0].value.unit;
    return {make_linear_job(context, job), group.ops.size()};
}

}  // namespace

Fused make_fused(const Context& context, const GroupPlaces& group) {
    switch (group.kind) {
        case firmware::FusionKind::projection:
            return projection(context, group);
        case firmware::FusionKind::gated:
            return gated(context, group);
        case firmware::FusionKind::residual:
            return residual(context, group);
    }
    return {};
}

}  // namespace m4::ops
