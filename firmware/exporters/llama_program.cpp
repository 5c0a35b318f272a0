// SPDX-License-Identifier: MIT
#include "llama_program.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "lib/error.hpp"

namespace m4::firmware {

namespace {

std::string name_of(OpCode code) {
    return std::string(find_op(static_cast<std::uint16_t>(code))->name);
}

/// Sizes that every layer must agree on.
struct Sizes {
    std::uint32_t heads = 0;
    std::uint32_t kv_heads = 0;
    std::uint32_t head_dim = 0;
    std::uint64_t ffn = 0;
    bool operator==(const Sizes&) const = default;
};

class Matcher {
   public:
    Matcher(const Image& image, const Part& part, const Program& program, std::string place)
        : image_(image),
          part_(part),
          program_(program),
          place_(std::move(place)),
          used_(program.ops.size()) {
        defined_by_.resize(program.values.size(), program.ops.size());
        for (std::size_t i = 0; i < program.ops.size(); ++i) {
            for (const auto value : program.ops[i].outputs) {
                defined_by_[value] = i;
            }
        }
    }

    LlamaProgram run();

   private:
    [[noreturn]] void fail(const Op& op, const std::string& reason) const {
        const auto index = static_cast<std::size_t>(&op - program_.ops.data());
        throw Error(place_ + ": op " + std::to_string(index) + " (" + name_of(op.code) + ")",
                    reason);
    }

    [[nodiscard]] const Op* definition(const Operand& operand) const {
        const bool value = operand.kind == OperandKind::value;
        const std::size_t index = value ? defined_by_[operand.index] : program_.ops.size();
        return index < program_.ops.size() ? &program_.ops[index] : nullptr;
    }

    const Op& take(const Op& op) {
        used_[static_cast<std::size_t>(&op - program_.ops.data())] = true;
        return op;
    }

    /// The operator that made input `slot` of `op`, which must be a `wanted`.
    const Op& input(const Op& op, std::size_t slot, OpCode wanted) {
        const Op* made = definition(op.inputs[slot]);
        if (made == nullptr || made->code != wanted) {
            fail(op, "input " + std::to_string(slot) + " is the result of " +
                         (made == nullptr ? "no operator" : name_of(made->code)) +
                         ", where a llama has " + name_of(wanted));
        }
        return take(*made);
    }

    /// Of an operator whose two inputs may be swapped: the slot that `wanted`
    /// made.
    std::size_t slot_made_by(const Op& op, OpCode wanted) const {
        for (std::size_t slot = 0; slot < 2; ++slot) {
            const Op* made = definition(op.inputs[slot]);
            if (made != nullptr && made->code == wanted) {
                return slot;
            }
        }
        fail(op, "none of its inputs is the result of " + name_of(wanted) + ", as in a llama");
    }

    void require_role(const Op& op, std::size_t slot, Role role) const {
        const auto& operand = op.inputs[slot];
        const bool found =
            std::any_of(program_.inputs.begin(), program_.inputs.end(), [&](const Port& port) {
                return port.role == role && operand.kind == OperandKind::value &&
                       port.value == operand.index;
            });
        if (!found) {
            fail(op, "input " + std::to_string(slot) + " is another than in a llama");
        }
    }

    void require_same(const Op& op, const Operand& a, const Operand& b) const {
        if (a.kind != b.kind || a.index != b.index) {
            fail(op, "reads another value than in a llama");
        }
    }

    [[nodiscard]] const Tensor* tensor(const Operand& operand) const {
        return operand.kind == OperandKind::tensor ? &image_.tensors()[operand.index] : nullptr;
    }

    [[nodiscard]] LlamaProjection projection(const Op& linear) const {
        return {tensor(linear.inputs[1]), tensor(linear.inputs[2])};
    }

    /// The norm behind input `slot`: its weights; its own input comes back too.
    std::pair<const Tensor*, Operand> norm(const Op& op, std::size_t slot) {
        const Op& norm = input(op, slot, OpCode::rms_norm);
        const double eps = norm.real(AttrId::eps);
        if (eps_ && *eps_ != eps) {
            fail(norm, "has another eps than the others, which a GGUF of a llama cannot say");
        }
        eps_ = eps;
        return {tensor(norm.inputs[1]), norm.inputs[0]};
    }

    /// The rotation behind input `slot`; gives the projection before it.
    const Op& rotated(const Op& op, std::size_t slot, std::uint32_t heads, std::uint32_t head_dim);
    Operand attention(const Op& o, LlamaLayer& layer, Sizes& sizes);
    Operand feed_forward(const Op& down, LlamaLayer& layer, Sizes& sizes);
    /// The layer that ends in `sum`; gives what went into it.
    Operand layer(const Op& sum);
    const Op& writer_of(const Op& attention);
    void finish(LlamaProgram& out, const Op& logits) const;

    const Image& image_;
    const Part& part_;
    const Program& program_;
    std::string place_;
    std::vector<std::size_t> defined_by_;
    std::vector<bool> used_;
    std::optional<double> eps_;
    std::optional<Sizes> sizes_;
    const Tensor* rope_table_ = nullptr;
    std::int64_t fine_rows_ = 0;
    std::vector<LlamaLayer> layers_;  ///< last one first
};

const Op& Matcher::rotated(const Op& op, std::size_t slot, std::uint32_t heads,
                           std::uint32_t head_dim) {
    const Op& rope = input(op, slot, OpCode::rope);
    require_role(rope, 1, Role::positions);
    const Tensor* table = tensor(rope.inputs[2]);
    if (rope.integer(AttrId::heads) != heads || rope.integer(AttrId::head_dim) != head_dim) {
        fail(rope, "turns other heads than attention has");
    }
    if (rope_table_ != nullptr &&
        (table != rope_table_ || rope.integer(AttrId::fine_rows) != fine_rows_)) {
        fail(rope, "reads another table than the others, which a GGUF of a llama cannot say");
    }
    if (table->shape[1] != head_dim) {
        fail(rope, "turns " + std::to_string(table->shape[1]) + " of " + std::to_string(head_dim) +
                       " dimensions, which a GGUF of a llama cannot say");
    }
    rope_table_ = table;
    fine_rows_ = rope.integer(AttrId::fine_rows);
    return input(rope, 0, OpCode::linear);
}

/// The one kv_write of the state that `attention` reads.
const Op& Matcher::writer_of(const Op& attention) {
    const Op* found = nullptr;
    for (const Op& op : program_.ops) {
        const bool same =
            (op.code == OpCode::kv_write || op.code == OpCode::attention) &&
            op.inputs[op.code == OpCode::kv_write ? 0 : 1].index == attention.inputs[1].index;
        if (!same || &op == &attention) {
            continue;
        }
        if (op.code == OpCode::attention || found != nullptr) {
            fail(op, "shares the KV cache of another, which a llama does not");
        }
        found = &op;
    }
    if (found == nullptr) {
        fail(attention, "reads a KV cache that nothing writes");
    }
    return take(*found);
}

Operand Matcher::attention(const Op& o, LlamaLayer& layer, Sizes& sizes) {
    layer.o = projection(o);
    const Op& attend = input(o, 0, OpCode::attention);
    require_role(attend, 2, Role::positions);
    const State& state = program_.states[attend.inputs[1].index];
    sizes.heads = static_cast<std::uint32_t>(attend.integer(AttrId::heads));
    sizes.kv_heads = state.kv_heads;
    sizes.head_dim = state.head_dim;
    const double scale = 1.0 / std::sqrt(static_cast<double>(state.head_dim));
    if (std::abs(attend.real(AttrId::scale) - scale) > 1e-7 * scale) {
        fail(attend, "scale " + std::to_string(attend.real(AttrId::scale)) +
                         " is not 1 / sqrt(head_dim), which a GGUF of a llama cannot say");
    }
    const Op& q = rotated(attend, 0, sizes.heads, sizes.head_dim);
    const Op& write = writer_of(attend);
    require_role(write, 3, Role::positions);
    const Op& k = rotated(write, 1, sizes.kv_heads, sizes.head_dim);
    const Op& v = input(write, 2, OpCode::linear);
    require_same(k, k.inputs[0], q.inputs[0]);
    require_same(v, v.inputs[0], q.inputs[0]);
    layer.q = projection(q);
    layer.k = projection(k);
    layer.v = projection(v);
    Operand before;
    std::tie(layer.attention_norm, before) = norm(q, 0);
    return before;
}

Operand Matcher::feed_forward(const Op& down, LlamaLayer& layer, Sizes& sizes) {
    layer.down = projection(down);
    const Op& product = input(down, 0, OpCode::mul);
    const std::size_t slot = slot_made_by(product, OpCode::activation);
    const Op& activation = input(product, slot, OpCode::activation);
    if (activation.integer(AttrId::function) != static_cast<std::int64_t>(Activation::silu)) {
        fail(activation, "is not SiLU, as in a llama");
    }
    const Op& gate = input(activation, 0, OpCode::linear);
    const Op& up = input(product, 1 - slot, OpCode::linear);
    require_same(up, up.inputs[0], gate.inputs[0]);
    layer.gate = projection(gate);
    layer.up = projection(up);
    sizes.ffn = layer.gate.weight->shape[0];
    Operand before;
    std::tie(layer.ffn_norm, before) = norm(gate, 0);
    return before;
}

Operand Matcher::layer(const Op& sum) {
    LlamaLayer layer;
    Sizes sizes;
    std::size_t slot = slot_made_by(sum, OpCode::linear);
    Operand before = feed_forward(input(sum, slot, OpCode::linear), layer, sizes);
    require_same(sum, before, sum.inputs[1 - slot]);
    const Op& middle = input(sum, 1 - slot, OpCode::add);
    slot = slot_made_by(middle, OpCode::linear);
    before = attention(input(middle, slot, OpCode::linear), layer, sizes);
    require_same(middle, before, middle.inputs[1 - slot]);
    if (sizes_ && *sizes_ != sizes) {
        fail(sum, "ends a layer of another size than the others");
    }
    sizes_ = sizes;
    layers_.push_back(layer);
    return before;
}

LlamaProgram Matcher::run() {
    LlamaProgram out;
    if (program_.outputs.size() != 1 || program_.outputs.front().role != Role::logits) {
        throw Error(place_, "gives something else than logits");
    }
    const Op* logits = definition({OperandKind::value, program_.outputs.front().value});
    if (logits == nullptr || logits->code != OpCode::linear) {
        throw Error(place_, "its logits are no result of linear, as in a llama");
    }
    take(*logits);
    if (tensor(logits->inputs[2]) != nullptr) {
        fail(*logits, "has a bias, which the output of a llama has not");
    }
    out.output = tensor(logits->inputs[1]);
    Operand x;
    std::tie(out.final_norm, x) = norm(*logits, 0);
    const Op* made = definition(x);
    if (made == nullptr || made->code != OpCode::gather_rows ||
        tensor(made->inputs[0]) != nullptr) {
        fail(*logits, "is not of the rows that are asked for");
    }
    require_role(take(*made), 1, Role::output_rows);
    const Op* at = made;
    x = made->inputs[0];
    while ((made = definition(x)) != nullptr && made->code == OpCode::add) {
        at = made;
        x = layer(take(*made));
    }
    if (made == nullptr || made->code != OpCode::gather_rows ||
        tensor(made->inputs[0]) == nullptr) {
        fail(*at, "reads neither a layer's result nor the embedding");
    }
    require_role(take(*made), 1, Role::token_ids);
    out.embedding = tensor(made->inputs[0]);
    if (layers_.empty()) {
        throw Error(place_, "has no layers");
    }
    finish(out, *logits);
    return out;
}

void Matcher::finish(LlamaProgram& out, const Op& logits) const {
    const auto unused = std::find(used_.begin(), used_.end(), false);
    if (unused != used_.end()) {
        fail(program_.ops[static_cast<std::size_t>(unused - used_.begin())],
             "is no part of a llama");
    }
    if (out.embedding->shape[0] != part_.vocabulary || out.output->shape[0] != part_.vocabulary) {
        fail(logits, "the embedding has " + std::to_string(out.embedding->shape[0]) +
                         " rows and the output " + std::to_string(out.output->shape[0]) +
                         " for a vocabulary of " + std::to_string(part_.vocabulary));
    }
    out.config.dim = static_cast<std::uint32_t>(out.embedding->shape[1]);
    out.config.layers = static_cast<std::uint32_t>(layers_.size());
    out.config.heads = sizes_->heads;
    out.config.kv_heads = sizes_->kv_heads;
    out.config.head_dim = sizes_->head_dim;
    out.config.ffn = static_cast<std::uint32_t>(sizes_->ffn);
    out.config.vocabulary = part_.vocabulary;
    out.config.context = part_.context_length;
    out.config.eps = *eps_;
    out.config.tied = out.output == out.embedding;
    if (out.config.tied) {
        out.output = nullptr;
    }
    out.layers.assign(layers_.rbegin(), layers_.rend());
    out.rope_table = rope_table_;
    out.fine_rows = static_cast<std::uint32_t>(fine_rows_);
}

}  // namespace

LlamaProgram recognize_llama(const Image& image, const Part& part, const std::string& place) {
    const std::string where = place + ": part " + part.name;
    if (part.programs.size() != 1) {
        throw Error(where, "has " + std::to_string(part.programs.size()) +
                               " programs; a GGUF of a llama is one");
    }
    const Program& program = part.programs.front();
    return Matcher(image, part, program, where + ": " + program.name).run();
}

}  // namespace m4::firmware
