// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "image.hpp"
#include "part_ports.hpp"
#include "program.hpp"

namespace m4::firmware {

/// One operator as its shape rule sees it. verify.cpp has already checked the
/// arity, the kinds of the operands against ops.def, that every index is in
/// range and that every value is defined. References must outlive the object.
class OpUse {
   public:
    OpUse(const Part& part, const Program& program, const std::vector<Role>& roles,
          std::span<const Tensor> tensors, const Op& op, std::string program_place,
          std::size_t index)
        : part_(part),
          program_(program),
          roles_(roles),
          tensors_(tensors),
          op_(op),
          program_place_(std::move(program_place)),
          index_(index) {}

    [[nodiscard]] const Part& part() const { return part_; }
    /// Entries of the positions input are below it.
    [[nodiscard]] std::uint32_t position_bound() const {
        return prepares(part_, program_) ? part_.memory_rows : part_.context_length;
    }
    [[nodiscard]] bool holds(std::size_t slot, OperandKind kind) const {
        return op_.inputs[slot].kind == kind;
    }
    [[nodiscard]] const Value& value(std::size_t slot) const {
        return program_.values[op_.inputs[slot].index];
    }
    [[nodiscard]] const Tensor& tensor(std::size_t slot) const {
        return tensors_[op_.inputs[slot].index];
    }
    [[nodiscard]] const State& state(std::size_t slot) const {
        return program_.states[op_.inputs[slot].index];
    }
    /// What input port the value of a slot is, if it is one.
    [[nodiscard]] std::optional<Role> role(std::size_t slot) const;

    /// An integer attribute, 1 to M4_IMAGE_DIM_MAX.
    [[nodiscard]] std::uint64_t count(AttrId id) const;
    /// A real attribute, finite and above zero.
    void require_positive(AttrId id) const;
    [[nodiscard]] std::int64_t integer(AttrId id) const { return op_.integer(id); }

    [[noreturn]] void fail(std::size_t slot, const std::string& reason) const;
    [[noreturn]] void fail(AttrId id, const std::string& reason) const;

   private:
    const Part& part_;
    const Program& program_;
    const std::vector<Role>& roles_;  // of each value; Role{}: not an input
    std::span<const Tensor> tensors_;
    const Op& op_;
    std::string program_place_;
    std::size_t index_;
};

/// What the operator defines, or nothing where it defines no value. Throws
/// Error naming the operand or attribute that breaks the operator's rule.
using ShapeRule = std::optional<Value> (*)(const OpUse&);

/// The rule of an operator of the set.
[[nodiscard]] ShapeRule shape_rule(OpCode code);

/// "f32[tokens, 64]".
[[nodiscard]] std::string describe(const Value& value);

}  // namespace m4::firmware
