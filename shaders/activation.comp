// SPDX-License-Identifier: MIT
// y = f(x). One lane a unit. Each f maps the padding's zeros to zero.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(constant_id = 1) const uint FUNCTION = 1;  // m4::firmware::Activation

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint unit_count;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index < p.unit_count) {
        const vec4 x = LOAD_X(p.x_offset + index);
        vec4 y = x;
        if (FUNCTION == 1u) {
            y = x / (1.0 + exp(-x));
        }
        STORE_Y(p.y_offset + index, y);
    }
}
