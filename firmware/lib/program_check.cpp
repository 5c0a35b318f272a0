// SPDX-License-Identifier: MIT
#include "program_check.hpp"

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "error.hpp"
#include "fusion.hpp"
#include "image.hpp"
#include "limits.hpp"
#include "operators.hpp"
#include "part_ports.hpp"
#include "places.hpp"
#include "port_rules.hpp"
#include "shape_rules.hpp"

namespace m4::firmware {

namespace {

void require_count(std::size_t count, std::size_t limit, const std::string& place,
                   const char* what) {
    if (count > limit) {
        throw Error(place,
                    std::to_string(count) + " " + what + ", more than " + std::to_string(limit));
    }
}

/// Null where the operand suits a slot of this letter of ops.def.
const char* slot_fault(char letter, OperandKind kind) {
    const bool optional = std::isupper(static_cast<unsigned char>(letter)) != 0;
    if (kind == OperandKind::none) {
        return optional ? nullptr : "is empty";
    }
    switch (std::tolower(static_cast<unsigned char>(letter))) {
        case 'v':
            return kind == OperandKind::value ? nullptr : "is not a value";
        case 't':
            return kind == OperandKind::tensor ? nullptr : "is not a tensor";
        case 's':
            return kind == OperandKind::state ? nullptr : "is not a state";
        case 'a':
            return kind == OperandKind::value || kind == OperandKind::tensor
                       ? nullptr
                       : "is not a value or a tensor";
        default:
            return "has an unknown kind";
    }
}

/// One program, checked front to back: a value is usable from where it is
/// defined on, so operators in order cannot form a cycle and end.
class ProgramCheck {
   public:
    ProgramCheck(const Part& part, const Program& program, std::span<const Tensor> tensors,
                 std::string place)
        : part_(part), program_(program), tensors_(tensors), place_(std::move(place)) {}

    void run() {
        require_count(program_.inputs.size(), kMaxPorts, place_, "input ports");
        require_count(program_.outputs.size(), kMaxPorts, place_, "output ports");
        require_count(program_.values.size(), kMaxValues, place_, "values");
        require_count(program_.states.size(), kMaxStates, place_, "states");
        require_count(program_.ops.size(), kMaxOps, place_, "operators");
        check_values();
        check_states();
        check_inputs();
        for (std::size_t i = 0; i < program_.ops.size(); ++i) {
            check_op(i);
        }
        check_all_defined();
        check_embedded_rows();
        check_outputs();
        check_fusions();
    }

   private:
    void check_values() const {
        for (std::size_t i = 0; i < program_.values.size(); ++i) {
            if (const std::string fault = value_fault(program_.values[i]); !fault.empty()) {
                throw Error(place_ + ": value " + std::to_string(i), fault);
            }
        }
    }

    static std::string value_fault(const Value& value) {
        if (value.dtype != M4_DTYPE_F32 && value.dtype != M4_DTYPE_U32) {
            return "type " + std::to_string(value.dtype) + " is not one of values";
        }
        if (value.dims.empty() || value.dims.size() > 2) {
            return "rank " + std::to_string(value.dims.size()) + " is not 1 or 2";
        }
        std::uint64_t bytes = 4;
        for (const Dim& dim : value.dims) {
            if (dim.symbol > Symbol::items) {
                return "unknown symbol " + std::to_string(static_cast<unsigned>(dim.symbol));
            }
            if (&dim != &value.dims.front() && dim.symbol != Symbol::none) {
                return "only the first dimension may vary";
            }
            if (dim.factor == 0 || dim.factor > M4_IMAGE_DIM_MAX) {
                return "a dimension of " + std::to_string(dim.factor) + " is not 1 to 2^31";
            }
            if (bytes > kMaxValueBytes / dim.factor) {
                return "more than 1 GiB";
            }
            bytes *= dim.factor;
        }
        return {};
    }

    void check_states() {
        state_written_.assign(program_.states.size(), false);
        for (std::size_t i = 0; i < program_.states.size(); ++i) {
            const State& state = program_.states[i];
            const std::uint64_t width = std::uint64_t{state.kv_heads} * state.head_dim;
            if (state.kind != StateKind::kv_cache &&
                !(state.kind == StateKind::memory && part_.kind == PartKind::decoder)) {
                throw Error(place_ + ": state " + std::to_string(i),
                            "kind " + std::to_string(static_cast<unsigned>(state.kind)) +
                                " is not one of this part's");
            }
            if (width == 0 || width > kMaxValueBytes / sizeof(float)) {
                throw Error(
                    place_ + ": state " + std::to_string(i),
                    "a row of " + std::to_string(width) + " elements is none, or over 1 GiB");
            }
        }
    }

    void check_inputs() {
        defined_.assign(program_.values.size(), false);
        roles_.assign(program_.values.size(), Role{});
        check_ports(program_.inputs, "input port ",
                    [&](const Port& port, const std::string& place) {
                        // An operator defines these; the daemon then puts rows in them.
                        if (port.role != Role::embedded_rows) {
                            define(port.value, place);
                            roles_[port.value] = port.role;
                        }
                        return input_fault(part_, program_, port);
                    });
        if (const std::string fault = inputs_fault(part_, program_); !fault.empty()) {
            throw Error(place_, fault);
        }
    }

    void check_outputs() const {
        check_ports(program_.outputs, "output port ",
                    [&](const Port& port, const std::string& /*place*/) {
                        return output_fault(part_, program_, port);
                    });
        if (const std::string fault = outputs_fault(part_, program_); !fault.empty()) {
            throw Error(place_, fault);
        }
    }

    /// Each role once; `fault` says what is amiss with a port.
    template <typename Fault>
    void check_ports(const std::vector<Port>& ports, const char* what, Fault&& fault) const {
        std::set<Role> seen;
        for (std::size_t i = 0; i < ports.size(); ++i) {
            const std::string place = place_ + ": " + what + std::to_string(i);
            if (ports[i].value >= program_.values.size()) {
                throw Error(place, "value " + std::to_string(ports[i].value) + " does not exist");
            }
            if (const std::string found = fault(ports[i], place); !found.empty()) {
                throw Error(place, found);
            }
            if (!seen.insert(ports[i].role).second) {
                throw Error(place, "a second port of this role");
            }
        }
    }

    void define(std::uint32_t value, const std::string& place) {
        if (defined_[value]) {
            throw Error(place, "value " + std::to_string(value) + " is already defined");
        }
        defined_[value] = true;
    }

    void check_op(std::size_t index) {
        const Op& op = program_.ops[index];
        const OpInfo* info = find_op(static_cast<std::uint16_t>(op.code));
        if (info == nullptr) {
            throw Error(place_ + ": op " + std::to_string(index),
                        "unknown operator code " + std::to_string(static_cast<unsigned>(op.code)));
        }
        const std::string place = op_place(place_, index, info->name);
        if (op.inputs.size() != info->inputs.size()) {
            throw Error(place, std::to_string(op.inputs.size()) + " inputs instead of " +
                                   std::to_string(info->inputs.size()));
        }
        for (std::size_t slot = 0; slot < op.inputs.size(); ++slot) {
            check_operand(op, info->inputs[slot], op.inputs[slot],
                          place + ": input " + std::to_string(slot));
        }
        check_attributes(op, *info, place);
        const OpUse use(part_, program_, roles_, tensors_, op, place_, index);
        check_results(op, *info, shape_rule(op.code)(use), place);
    }

    void check_operand(const Op& op, char letter, const Operand& operand,
                       const std::string& place) {
        if (const char* fault = slot_fault(letter, operand.kind)) {
            throw Error(place, fault);
        }
        const std::string number = std::to_string(operand.index);
        switch (operand.kind) {
            case OperandKind::none:
                if (operand.index != 0) {
                    throw Error(place, "is empty but has index " + number);
                }
                break;
            case OperandKind::value:
                if (operand.index >= program_.values.size()) {
                    throw Error(place, "value " + number + " does not exist");
                }
                if (!defined_[operand.index]) {
                    throw Error(place, "value " + number + " is not defined before its use");
                }
                break;
            case OperandKind::tensor:
                if (operand.index >= tensors_.size()) {
                    throw Error(place, "tensor " + number + " does not exist");
                }
                break;
            case OperandKind::state:
                check_state_use(op, operand.index, place);
                break;
        }
    }

    void check_state_use(const Op& op, std::uint32_t state, const std::string& place) {
        const std::string number = std::to_string(state);
        if (state >= program_.states.size()) {
            throw Error(place, "state " + number + " does not exist");
        }
        const bool writes = op.code == OpCode::kv_write;
        if (!is_own(program_.states[state])) {
            if (writes) {
                throw Error(place, "state " + number + " is another program's to write");
            }
            if (program_.states[state].kind == StateKind::memory) {
                return;  // it was there before the program ran
            }
        }
        if (writes == state_written_[state]) {
            throw Error(place,
                        "state " + number +
                            (writes ? " is written twice" : " is read before it is written"));
        }
        state_written_[state] = true;
    }

    /// Whether this program writes it: `prepare` the memory, any other the rest.
    [[nodiscard]] bool is_own(const State& state) const {
        return (state.kind == StateKind::memory) == prepares(part_, program_);
    }

    static void check_attributes(const Op& op, const OpInfo& info, const std::string& place) {
        const auto own = attributes_of(info);
        for (std::size_t id = 0; id < op.reals.size(); ++id) {
            const auto mine = std::find_if(own.begin(), own.end(), [&](const AttrInfo* row) {
                return static_cast<std::size_t>(row->id) == id;
            });
            const char kind = mine == own.end() ? ' ' : (*mine)->kind;
            if ((kind != 'F' && op.reals.at(id) != 0.0) ||
                (kind != 'I' && op.integers.at(id) != 0)) {
                throw Error(place, "attribute " + std::to_string(id) +
                                       " is not one of this operator's, or of another kind");
            }
        }
    }

    void check_results(const Op& op, const OpInfo& info, const std::optional<Value>& result,
                       const std::string& place) {
        if (op.outputs.size() != info.output_count ||
            result.has_value() != (info.output_count == 1)) {
            throw Error(place, std::to_string(op.outputs.size()) + " outputs instead of " +
                                   std::to_string(info.output_count));
        }
        if (!result) {
            return;
        }
        const std::uint32_t output = op.outputs.front();
        const std::string output_place = place + ": output 0";
        if (output >= program_.values.size()) {
            throw Error(output_place, "value " + std::to_string(output) + " does not exist");
        }
        const Value& declared = program_.values[output];
        if (declared.dtype != result->dtype || declared.dims != result->dims) {
            throw Error(output_place, "value " + std::to_string(output) + " is " +
                                          describe(declared) + " but the operator gives " +
                                          describe(*result));
        }
        define(output, output_place);
    }

    void check_all_defined() const {
        for (std::size_t i = 0; i < defined_.size(); ++i) {
            if (!defined_[i]) {
                throw Error(place_ + ": value " + std::to_string(i), "is never defined");
            }
        }
        for (std::size_t i = 0; i < state_written_.size(); ++i) {
            if (!state_written_[i] && is_own(program_.states[i])) {
                throw Error(place_ + ": state " + std::to_string(i), "is never written");
            }
        }
    }

    /// The daemon overwrites them behind the operator that makes them, so that must
    /// be the one that looks tokens up.
    void check_embedded_rows() const {
        const auto port =
            std::find_if(program_.inputs.begin(), program_.inputs.end(),
                         [](const Port& input) { return input.role == Role::embedded_rows; });
        if (port == program_.inputs.end()) {
            return;
        }
        const auto made = std::find_if(program_.ops.begin(), program_.ops.end(), [&](const Op& op) {
            return !op.outputs.empty() && op.outputs[0] == port->value;
        });
        const bool looked_up = made->code == OpCode::gather_rows &&
                               made->inputs[0].kind == OperandKind::tensor &&
                               roles_[made->inputs[1].index] == Role::token_ids;
        if (!looked_up) {
            throw Error(place_, "embedded_rows are not what gather_rows makes of token_ids");
        }
    }

    void check_fusions() const {
        const FusionRules rules(program_);
        std::uint32_t end = 0;
        for (std::size_t i = 0; i < program_.fusions.size(); ++i) {
            const Fusion& fusion = program_.fusions[i];
            const std::string place = place_ + ": fusion " + std::to_string(i);
            if (fusion.first < end) {
                throw Error(place, "begins before the end of the one before");
            }
            if (const std::string fault = rules.fault(fusion); !fault.empty()) {
                throw Error(place, fault);
            }
            end = fusion.first + fusion.count;
        }
    }

    const Part& part_;
    const Program& program_;
    std::span<const Tensor> tensors_;
    std::string place_;
    std::vector<bool> defined_;
    std::vector<bool> state_written_;
    std::vector<Role> roles_;  // by value; Role{}: not an input port
};

}  // namespace

bool takes_tokens(const Program& program) {
    return std::any_of(program.inputs.begin(), program.inputs.end(),
                       [](const Port& port) { return port.role == Role::token_ids; });
}

void check_program(const Part& part, const Program& program, std::span<const Tensor> tensors,
                   std::string place) {
    ProgramCheck(part, program, tensors, std::move(place)).run();
}

}  // namespace m4::firmware
