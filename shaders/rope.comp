// SPDX-License-Identifier: MIT
// Rotates the interleaved pairs (2i, 2i+1) of each head by the angle of the
// row's position. The table holds (cos, sin) pairs: `fine_rows` rows of the
// positions 0, 1, ..., then rows of the multiples of fine_rows; an angle is
// the sum of a fine and a coarse one. One lane a unit of y.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#include "weights.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint stride;  // units of a row, of x and y
    uint columns;
    uint row_count;
    uint positions_word;
    uint head_dim;
    uint rotated;  // dimensions of a head that turn: columns of the table
    uint fine_rows;
} p;

vec2 angle(uint row, uint pair) {
    const uint element = row * p.rotated + pair * 2u;
    const vec4 unit = uintBitsToFloat(LOAD_W(element / 4u));
    return element % 4u == 0u ? unit.xy : unit.zw;
}

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.row_count * p.stride) {
        return;
    }
    const uint t = index / p.stride;
    const uint c = index % p.stride;
    const uint position = step_words[p.positions_word + t];
    const uint x_row = p.x_offset + t * p.stride;
    const vec4 x = LOAD_X(x_row + c);
    vec4 y = x;
    [[unroll]] for (uint k = 0u; k < 4u; ++k) {
        const uint element = c * 4u + k;
        const uint i = element % p.head_dim;
        if (i < p.rotated && element < p.columns) {
            const vec2 fine = angle(position % p.fine_rows, i / 2u);
            const vec2 coarse = angle(p.fine_rows + position / p.fine_rows, i / 2u);
            const float cosine = fine.x * coarse.x - fine.y * coarse.y;
            const float sine = fine.y * coarse.x + fine.x * coarse.y;
            if (i % 2u == 0u) {
                y[k] = x[k] * cosine - load_element(x_row, element + 1u) * sine;
            } else {
                y[k] = x[k] * cosine + load_element(x_row, element - 1u) * sine;
            }
        }
    }
    STORE_Y(p.y_offset + index, y);
}
