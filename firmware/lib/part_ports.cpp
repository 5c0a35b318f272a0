// SPDX-License-Identifier: MIT
#include "part_ports.hpp"

namespace m4::firmware {

const Value* port_value(const Part& part, Role role) {
    for (const Program& program : part.programs) {
        for (const std::vector<Port>* ports : {&program.inputs, &program.outputs}) {
            for (const Port& port : *ports) {
                if (port.role == role && port.value < program.values.size()) {
                    return &program.values[port.value];
                }
            }
        }
    }
    return nullptr;
}

bool prepares(const Part& part, const Program& program) {
    return part.kind == PartKind::decoder && program.name == "prepare";
}

FeatureShape port_shape(const Part& part, Role role) {
    const Value* value = port_value(part, role);
    return value == nullptr || value->dims.size() != 2
               ? FeatureShape{}
               : FeatureShape{value->dims[0].factor, value->dims[1].factor};
}

}  // namespace m4::firmware
