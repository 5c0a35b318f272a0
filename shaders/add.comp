// SPDX-License-Identifier: MIT
// y = a + b. One lane a unit. M4_DTYPE_F32: b is a matrix of the image, the same
// for each item.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#if M4_DTYPE_F32
#include "plain.glsl"
#endif

layout(push_constant) uniform Push {
    uint a_offset;
#if !M4_DTYPE_F32
    uint b_offset;
#endif
    uint y_offset;
#if M4_DTYPE_F32
    uint stride;     // units of a row, of a and y
    uint item_rows;  // of a, and rows of b
    uint columns;
#endif
    uint unit_count;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index < p.unit_count) {
#if M4_DTYPE_F32
        const vec4 b =
            plain_unit(index / p.stride % p.item_rows, index % p.stride, p.columns);
#else
        const vec4 b = LOAD_X(p.b_offset + index);
#endif
        STORE_Y(p.y_offset + index, LOAD_X(p.a_offset + index) + b);
    }
}
