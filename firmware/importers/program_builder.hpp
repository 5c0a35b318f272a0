// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "lib/program.hpp"

namespace m4::firmware {

/// Writes a program operator by operator, so that an architecture's file reads
/// like the model. A Ref is a value, a tensor or a state of the program; each
/// operator returns the value it defines. Shapes are declared here and proved
/// by the verifier.
class ProgramBuilder {
   public:
    using Ref = Operand;
    /// A tensor of the image, by the index ImageBuilder gave.
    static Ref tensor(std::uint32_t index) { return {OperandKind::tensor, index}; }
    static Ref none() { return {}; }

    explicit ProgramBuilder(std::string name) { program_.name = std::move(name); }

    Ref input(Role role, Symbol symbol, std::uint32_t factor = 1);
    /// An encoder's input: `rows` rows an item.
    Ref features(std::uint32_t rows, std::uint32_t columns);
    /// A head's input: what an encoder gives at `role`.
    Ref item_rows(Role role, std::uint32_t rows, std::uint32_t columns);
    /// Rows of an encoder, as a decoder prepares them.
    Ref memory_features(std::uint32_t columns);
    /// Rows of `value`, which gather_rows made of token_ids, may be put in place of it.
    void embedded_rows(Ref value);
    void output(Role role, Ref value);
    Ref state(std::uint32_t kv_heads, std::uint32_t head_dim, StateKind kind = StateKind::kv_cache);

    /// As many rows as `rows` has entries.
    Ref gather_rows(Ref data, Ref rows, std::uint32_t columns);
    Ref rms_norm(Ref x, Ref weight, double eps);
    Ref linear(Ref x, Ref weight, Ref bias, std::uint32_t columns);
    Ref rope(Ref x, Ref positions, Ref table, std::uint32_t heads, std::uint32_t head_dim,
             std::uint32_t fine_rows);
    void kv_write(Ref state, Ref k, Ref v, Ref positions);
    Ref attention(Ref q, Ref state, Ref positions, std::uint32_t heads, double scale);
    Ref add(Ref a, Ref b);
    Ref mul(Ref a, Ref b);
    Ref activation(Ref x, Activation function);

    Ref layer_norm(Ref x, Ref weight, Ref bias, double eps);
    struct Attention {
        std::uint32_t heads = 1;
        std::uint32_t kv_heads = 1;
        double scale = 1;
        bool causal = false;
    };
    Ref self_attention(Ref q, Ref k, Ref v, const Attention& attention);
    /// Windows over an item's planes, each `height` x `width`.
    struct Windows {
        std::uint32_t channels = 1;
        std::uint32_t height = 1;
        std::uint32_t width = 1;
        std::uint32_t kernel_h = 1;
        std::uint32_t kernel_w = 1;
        std::uint32_t stride_h = 1;
        std::uint32_t stride_w = 1;
        std::uint32_t pad_h = 0;
        std::uint32_t pad_w = 0;
    };
    Ref unfold(Ref x, const Windows& windows);
    /// `count` rows before each item's own.
    Ref prepend(Ref x, Ref rows, std::uint32_t count);
    Ref mean_rows(Ref x);
    Ref select_row(Ref x, std::uint32_t row);
    Ref l2_norm(Ref x, double scale);

    /// With the groups of operators that may be fused.
    [[nodiscard]] Program finish();

   private:
    Ref define(Value value);
    Value like(Ref value) const { return program_.values.at(value.index); }
    /// As wide as x, with `rows` rows an item.
    Value by_item(Ref x, std::uint32_t rows) const;
    Op& append(OpCode code, std::initializer_list<Ref> inputs);

    Program program_;
};

}  // namespace m4::firmware
