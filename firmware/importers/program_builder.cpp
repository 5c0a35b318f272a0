// SPDX-License-Identifier: MIT
#include "program_builder.hpp"

#include <utility>

#include "lib/fusion.hpp"

namespace m4::firmware {

namespace {

void set(Op& op, AttrId id, double value) {
    op.reals.at(static_cast<std::size_t>(id)) = value;
}

void set(Op& op, AttrId id, std::uint32_t value) {
    op.integers.at(static_cast<std::size_t>(id)) = value;
}

}  // namespace

using Ref = ProgramBuilder::Ref;

Ref ProgramBuilder::define(Value value) {
    program_.values.push_back(std::move(value));
    return {OperandKind::value, static_cast<std::uint32_t>(program_.values.size() - 1)};
}

Op& ProgramBuilder::append(OpCode code, std::initializer_list<Ref> inputs) {
    Op op;
    op.code = code;
    op.inputs = inputs;
    program_.ops.push_back(std::move(op));
    return program_.ops.back();
}

Ref ProgramBuilder::input(Role role, Symbol symbol, std::uint32_t factor) {
    const auto value = define({M4_DTYPE_U32, {{factor, symbol}}});
    program_.inputs.push_back({role, value.index});
    return value;
}

Ref ProgramBuilder::features(std::uint32_t rows, std::uint32_t columns) {
    return item_rows(Role::features, rows, columns);
}

Ref ProgramBuilder::item_rows(Role role, std::uint32_t rows, std::uint32_t columns) {
    const auto value = define({M4_DTYPE_F32, {{rows, Symbol::items}, {columns, Symbol::none}}});
    program_.inputs.push_back({role, value.index});
    return value;
}

Ref ProgramBuilder::memory_features(std::uint32_t columns) {
    const auto value = define({M4_DTYPE_F32, {{1, Symbol::tokens}, {columns, Symbol::none}}});
    program_.inputs.push_back({Role::features, value.index});
    return value;
}

Value ProgramBuilder::by_item(Ref x, std::uint32_t rows) const {
    return {M4_DTYPE_F32, {{rows, Symbol::items}, like(x).dims.back()}};
}

void ProgramBuilder::embedded_rows(Ref value) {
    program_.inputs.push_back({Role::embedded_rows, value.index});
}

void ProgramBuilder::output(Role role, Ref value) {
    program_.outputs.push_back({role, value.index});
}

Ref ProgramBuilder::state(std::uint32_t kv_heads, std::uint32_t head_dim, StateKind kind) {
    program_.states.push_back({kv_heads, head_dim, kind});
    return {OperandKind::state, static_cast<std::uint32_t>(program_.states.size() - 1)};
}

Ref ProgramBuilder::gather_rows(Ref data, Ref rows, std::uint32_t columns) {
    const auto out = define({M4_DTYPE_F32, {like(rows).dims.front(), {columns, Symbol::none}}});
    append(OpCode::gather_rows, {data, rows}).outputs = {out.index};
    return out;
}

Ref ProgramBuilder::rms_norm(Ref x, Ref weight, double eps) {
    const auto out = define(like(x));
    auto& op = append(OpCode::rms_norm, {x, weight});
    op.outputs = {out.index};
    set(op, AttrId::eps, eps);
    return out;
}

Ref ProgramBuilder::linear(Ref x, Ref weight, Ref bias, std::uint32_t columns) {
    auto shape = like(x);
    shape.dims.back().factor = columns;
    const auto out = define(std::move(shape));
    append(OpCode::linear, {x, weight, bias}).outputs = {out.index};
    return out;
}

Ref ProgramBuilder::rope(Ref x, Ref positions, Ref table, std::uint32_t heads,
                         std::uint32_t head_dim, std::uint32_t fine_rows) {
    const auto out = define(like(x));
    auto& op = append(OpCode::rope, {x, positions, table});
    op.outputs = {out.index};
    set(op, AttrId::heads, heads);
    set(op, AttrId::head_dim, head_dim);
    set(op, AttrId::fine_rows, fine_rows);
    return out;
}

void ProgramBuilder::kv_write(Ref state, Ref k, Ref v, Ref positions) {
    append(OpCode::kv_write, {state, k, v, positions});
}

Ref ProgramBuilder::attention(Ref q, Ref state, Ref positions, std::uint32_t heads, double scale) {
    const auto out = define(like(q));
    auto& op = append(OpCode::attention, {q, state, positions});
    op.outputs = {out.index};
    set(op, AttrId::heads, heads);
    set(op, AttrId::scale, scale);
    return out;
}

Ref ProgramBuilder::add(Ref a, Ref b) {
    const auto out = define(like(a));
    append(OpCode::add, {a, b}).outputs = {out.index};
    return out;
}

Ref ProgramBuilder::mul(Ref a, Ref b) {
    const auto out = define(like(a));
    append(OpCode::mul, {a, b}).outputs = {out.index};
    return out;
}

Ref ProgramBuilder::activation(Ref x, Activation function) {
    const auto out = define(like(x));
    auto& op = append(OpCode::activation, {x});
    op.outputs = {out.index};
    set(op, AttrId::function, static_cast<std::uint32_t>(function));
    return out;
}

Ref ProgramBuilder::layer_norm(Ref x, Ref weight, Ref bias, double eps) {
    const auto out = define(like(x));
    auto& op = append(OpCode::layer_norm, {x, weight, bias});
    op.outputs = {out.index};
    set(op, AttrId::eps, eps);
    return out;
}

Ref ProgramBuilder::self_attention(Ref q, Ref k, Ref v, const Attention& attention) {
    const auto out = define(like(q));
    auto& op = append(OpCode::self_attention, {q, k, v});
    op.outputs = {out.index};
    set(op, AttrId::heads, attention.heads);
    set(op, AttrId::kv_heads, attention.kv_heads);
    set(op, AttrId::scale, attention.scale);
    set(op, AttrId::causal, attention.causal ? 1U : 0U);
    return out;
}

Ref ProgramBuilder::unfold(Ref x, const Windows& w) {
    const std::uint32_t down = (w.height + 2 * w.pad_h - w.kernel_h) / w.stride_h + 1;
    const std::uint32_t across = (w.width + 2 * w.pad_w - w.kernel_w) / w.stride_w + 1;
    auto shape = by_item(x, down * across);
    shape.dims.back().factor = w.channels * w.kernel_h * w.kernel_w;
    const auto out = define(std::move(shape));
    auto& op = append(OpCode::unfold, {x});
    op.outputs = {out.index};
    set(op, AttrId::channels, w.channels);
    set(op, AttrId::kernel_h, w.kernel_h);
    set(op, AttrId::kernel_w, w.kernel_w);
    set(op, AttrId::stride_h, w.stride_h);
    set(op, AttrId::stride_w, w.stride_w);
    set(op, AttrId::pad_h, w.pad_h);
    set(op, AttrId::pad_w, w.pad_w);
    return out;
}

Ref ProgramBuilder::prepend(Ref x, Ref rows, std::uint32_t count) {
    const auto out = define(by_item(x, like(x).dims.front().factor + count));
    append(OpCode::prepend, {x, rows}).outputs = {out.index};
    return out;
}

Ref ProgramBuilder::mean_rows(Ref x) {
    const auto out = define(by_item(x, 1));
    append(OpCode::mean_rows, {x}).outputs = {out.index};
    return out;
}

Ref ProgramBuilder::select_row(Ref x, std::uint32_t row) {
    const auto out = define(by_item(x, 1));
    auto& op = append(OpCode::select_row, {x});
    op.outputs = {out.index};
    set(op, AttrId::row, row);
    return out;
}

Ref ProgramBuilder::l2_norm(Ref x, double scale) {
    const auto out = define(like(x));
    auto& op = append(OpCode::l2_norm, {x});
    op.outputs = {out.index};
    set(op, AttrId::scale, scale);
    return out;
}

Program ProgramBuilder::finish() {
    program_.fusions = find_fusions(program_);
    return std::move(program_);
}

}  // namespace m4::firmware
