// SPDX-License-Identifier: MIT
#include "port_rules.hpp"

#include <algorithm>
#include <vector>

#include "part_ports.hpp"
#include "program_check.hpp"
#include "shape_rules.hpp"

namespace m4::firmware {

namespace {

bool has(const std::vector<Port>& ports, Role role) {
    return std::any_of(ports.begin(), ports.end(),
                       [&](const Port& port) { return port.role == role; });
}

std::string shape_fault(const Program& program, const Port& port, const Value& wanted) {
    const Value& value = program.values[port.value];
    return value.dtype == wanted.dtype && value.dims == wanted.dims
               ? ""
               : describe(value) + " instead of " + describe(wanted);
}

/// Of a matrix whose rows are an encoder's items, or some of each.
std::string items_fault(const Program& program, const Port& port, bool one_row) {
    const Value& value = program.values[port.value];
    const bool good = value.dtype == M4_DTYPE_F32 && value.dims.size() == 2 &&
                      value.dims[0].symbol == Symbol::items &&
                      (!one_row || value.dims[0].factor == 1);
    return good ? ""
                : describe(value) + " is no F32 matrix of " + (one_row ? "a row an item" : "items");
}

/// Of a matrix with a row a token.
std::string tokens_fault(const Program& program, const Port& port) {
    const Value& value = program.values[port.value];
    const bool good = value.dtype == M4_DTYPE_F32 && value.dims.size() == 2 &&
                      value.dims[0] == Dim{1, Symbol::tokens};
    return good ? "" : describe(value) + " is no F32 matrix of tokens";
}

std::string unknown_role(const Port& port) {
    return "unknown role " + std::to_string(static_cast<unsigned>(port.role));
}

/// Whose rows are tokens of sequences.
bool runs_in_steps(const Part& part) {
    return part.kind == PartKind::backbone || part.kind == PartKind::decoder;
}

std::string step_input_fault(const Part& part, const Program& program, const Port& port) {
    const bool memory = prepares(part, program);
    const Value by_token{M4_DTYPE_U32, {{1, Symbol::tokens}}};
    switch (port.role) {
        case Role::positions:
            return shape_fault(program, port, by_token);
        case Role::token_ids:
            return memory ? unknown_role(port) : shape_fault(program, port, by_token);
        case Role::output_rows:
            return memory ? unknown_role(port)
                          : shape_fault(program, port, {M4_DTYPE_U32, {{1, Symbol::outputs}}});
        case Role::memory_positions:
            return memory || part.kind != PartKind::decoder ? unknown_role(port)
                                                            : shape_fault(program, port, by_token);
        case Role::features:
            return memory ? tokens_fault(program, port) : unknown_role(port);
        case Role::embedded_rows:
            return part.kind == PartKind::backbone ? tokens_fault(program, port)
                                                   : unknown_role(port);
        default:
            return unknown_role(port);
    }
}

/// What an encoder gives is what a head takes.
std::string head_input_fault(const Program& program, const Port& port) {
    switch (port.role) {
        case Role::embedding:
            return items_fault(program, port, true);
        case Role::hidden:
            return items_fault(program, port, false);
        default:
            return unknown_role(port);
    }
}

/// Features, or tokens of as many rows an item as the part's context has.
std::string encoder_inputs_fault(const Part& part, const Program& program) {
    if (part.kind == PartKind::projector && has(program.inputs, Role::token_ids)) {
        return "a projector takes tokens";
    }
    if (has(program.inputs, Role::token_ids)) {
        return has(program.inputs, Role::features)
                   ? "features and token_ids inputs; it takes the ones or the others"
                   : "";
    }
    if (!has(program.inputs, Role::features)) {
        return "no features input";
    }
    return has(program.inputs, Role::picked_rows) ? "picks rows without token_ids" : "";
}

}  // namespace

std::string input_fault(const Part& part, const Program& program, const Port& port) {
    if (runs_in_steps(part)) {
        return step_input_fault(part, program, port);
    }
    if (part.kind == PartKind::head) {
        return head_input_fault(program, port);
    }
    switch (port.role) {
        case Role::features:
            return items_fault(program, port, false);
        case Role::token_ids:
            return shape_fault(program, port,
                               {M4_DTYPE_U32, {{part.context_length, Symbol::items}}});
        case Role::picked_rows:
            return shape_fault(program, port, {M4_DTYPE_U32, {{1, Symbol::items}}});
        default:
            return unknown_role(port);
    }
}

std::string output_fault(const Part& part, const Program& program, const Port& port) {
    if (runs_in_steps(part)) {
        return port.role != Role::logits || prepares(part, program)
                   ? unknown_role(port)
                   : shape_fault(
                         program, port,
                         {M4_DTYPE_F32, {{1, Symbol::outputs}, {part.vocabulary, Symbol::none}}});
    }
    if (part.kind == PartKind::head && port.role != Role::scores) {
        return unknown_role(port);
    }
    switch (port.role) {
        case Role::hidden:
            return items_fault(program, port, false);
        case Role::embedding:
        case Role::scores:
            return items_fault(program, port, true);
        default:
            return unknown_role(port);
    }
}

std::string inputs_fault(const Part& part, const Program& program) {
    if (part.kind == PartKind::head) {
        return program.inputs.size() == 1 ? ""
                                          : "takes neither an embedding nor hidden states, or both";
    }
    if (!runs_in_steps(part)) {
        return encoder_inputs_fault(part, program);
    }
    if (!has(program.inputs, Role::positions)) {
        return "no positions input";
    }
    if (prepares(part, program)) {
        return has(program.inputs, Role::features) ? "" : "no features input";
    }
    if (!has(program.inputs, Role::token_ids)) {
        return "no token_ids input";
    }
    if (!has(program.inputs, Role::output_rows)) {
        return "no output_rows input";
    }
    return part.kind == PartKind::decoder && !has(program.inputs, Role::memory_positions)
               ? "no memory_positions input"
               : "";
}

std::string outputs_fault(const Part& part, const Program& program) {
    if (prepares(part, program)) {
        return "";
    }
    if (runs_in_steps(part)) {
        return has(program.outputs, Role::logits) ? "" : "no logits output";
    }
    return program.outputs.empty() ? "no output" : "";
}

}  // namespace m4::firmware
