// SPDX-License-Identifier: MIT
// y = x / sqrt(mean(x^2) + eps) * weight. One workgroup a row.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#include "weights.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint stride;  // units of a row, of x and y
    uint columns;
    float eps;
} p;

shared float partial[gl_WorkGroupSize.x];

void main() {
    const uint lane = gl_LocalInvocationID.x;
    const uint row = gl_WorkGroupID.x;
    const uint x_row = p.x_offset + row * p.stride;
    float sum = 0.0;
    for (uint c = lane; c < p.stride; c += gl_WorkGroupSize.x) {
        const vec4 x = LOAD_X(x_row + c);
        sum += dot(x, x);
    }
    partial[lane] = sum;
    barrier();
    sum = 0.0;
    for (uint i = 0u; i < gl_WorkGroupSize.x; ++i) {
        sum += partial[i];
    }
    const float factor = inversesqrt(sum / float(p.columns) + p.eps);
    const uint last = (p.columns - 1u) / 4u;
    for (uint c = lane; c < p.stride; c += gl_WorkGroupSize.x) {
        const vec4 weight = uintBitsToFloat(LOAD_W(min(c, last)));
        const vec4 y = LOAD_X(x_row + c) * factor * weight;
        STORE_Y(p.y_offset + row * p.stride + c, mask_columns(y, c * 4u, p.columns));
    }
}
