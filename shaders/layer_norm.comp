// SPDX-License-Identifier: MIT
// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias. One workgroup a row.
// The variance is that of the differences, in a pass of its own: rows far from
// zero lose nothing.
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

float over_lanes(float mine) {
    barrier();
    partial[gl_LocalInvocationID.x] = mine;
    barrier();
    float whole = 0.0;
    for (uint i = 0u; i < gl_WorkGroupSize.x; ++i) {
        whole += partial[i];
    }
    return whole;
}

void main() {
    const uint lane = gl_LocalInvocationID.x;
    const uint x_row = p.x_offset + gl_WorkGroupID.x * p.stride;
    float sum = 0.0;
    for (uint c = lane; c < p.stride; c += gl_WorkGroupSize.x) {
        sum += dot(LOAD_X(x_row + c), vec4(1.0));  // padding is zero
    }
    const float mean = over_lanes(sum) / float(p.columns);
    float squares = 0.0;
    for (uint c = lane; c < p.stride; c += gl_WorkGroupSize.x) {
        const vec4 x = mask_columns(LOAD_X(x_row + c) - mean, c * 4u, p.columns);
        squares += dot(x, x);
    }
    const float factor = inversesqrt(over_lanes(squares) / float(p.columns) + p.eps);
    const uint last = (p.columns - 1u) / 4u;
    for (uint c = lane; c < p.stride; c += gl_WorkGroupSize.x) {
        const vec4 weight = uintBitsToFloat(LOAD_W(min(c, last)));
        const vec4 bias = uintBitsToFloat(LOAD_SECOND(min(c, last)));
        const vec4 y = (LOAD_X(x_row + c) - mean) * factor * weight + bias;
        STORE_Y(p.y_offset + gl_WorkGroupID.x * p.stride + c,
                mask_columns(y, c * 4u, p.columns));
    }
}
