// SPDX-License-Identifier: MIT
// y = x / max(|x|, 1e-12) * scale. One workgroup a row.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint stride;  // units of a row, of x and y
    float scale;
} p;

shared float partial[gl_WorkGroupSize.x];

void main() {
    const uint lane = gl_LocalInvocationID.x;
    const uint row = gl_WorkGroupID.x * p.stride;
    float sum = 0.0;
    for (uint c = lane; c < p.stride; c += gl_WorkGroupSize.x) {
        const vec4 x = LOAD_X(p.x_offset + row + c);
        sum += dot(x, x);
    }
    partial[lane] = sum;
    barrier();
    sum = 0.0;
    for (uint i = 0u; i < gl_WorkGroupSize.x; ++i) {
        sum += partial[i];
    }
    const float factor = p.scale / max(sqrt(sum), 1e-12);
    for (uint c = lane; c < p.stride; c += gl_WorkGroupSize.x) {
        STORE_Y(p.y_offset + row + c, LOAD_X(p.x_offset + row + c) * factor);
    }
}
