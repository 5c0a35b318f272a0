// SPDX-License-Identifier: MIT
// y = the mean of each item's rows. One lane a unit of y.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint stride;     // units of a row, of x and y
    uint item_rows;  // of x
    uint unit_count;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.unit_count) {
        return;
    }
    const uint first = p.x_offset + index / p.stride * p.item_rows * p.stride + index % p.stride;
    vec4 sum = vec4(0.0);
    for (uint i = 0u; i < p.item_rows; ++i) {
        sum += LOAD_X(first + i * p.stride);
    }
    STORE_Y(p.y_offset + index, sum / float(p.item_rows));
}
