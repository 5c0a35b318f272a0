// SPDX-License-Identifier: MIT
// y = a * b. One lane a unit.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(push_constant) uniform Push {
    uint a_offset;
    uint b_offset;
    uint y_offset;
    uint unit_count;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index < p.unit_count) {
        STORE_Y(p.y_offset + index, LOAD_X(p.a_offset + index) * LOAD_X(p.b_offset + index));
    }
}
