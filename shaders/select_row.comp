// SPDX-License-Identifier: MIT
// y = one row of each item. One lane a unit of y.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint stride;     // units of a row, of x and y
    uint item_rows;  // of x
    uint row;
    uint unit_count;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index < p.unit_count) {
        const uint row = index / p.stride * p.item_rows + p.row;
        STORE_Y(p.y_offset + index, LOAD_X(p.x_offset + row * p.stride + index % p.stride));
    }
}
