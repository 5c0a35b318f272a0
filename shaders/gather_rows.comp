// SPDX-License-Identifier: MIT
// y[t] = data[rows[t]]; data is a ROWS16 tensor, or a value where the dtype is
// `any`. One lane a unit of y.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#if !M4_DTYPE_ANY
#include "weights.glsl"
#endif

layout(push_constant) uniform Push {
    uint data_offset;  // of a value, units
    uint data_stride;  // units of a row of the value, or of 16 rows of the tensor
    uint y_offset;
    uint y_stride;
    uint row_count;
    uint rows_word;  // first word of rows[] in the step buffer
    uint columns;
    uint first_row;  // of the data: the rows that the binding holds;
    uint data_rows;  // others are another dispatch's
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.row_count * p.y_stride) {
        return;
    }
    const uint t = index / p.y_stride;
    const uint c = index % p.y_stride;
    const uint row = step_words[p.rows_word + t] - p.first_row;
    if (row >= p.data_rows) {
        return;
    }
#if M4_DTYPE_ANY
    const vec4 value = LOAD_X(p.data_offset + row * p.data_stride + c);
#else
    // Padding of y may lie past the tensor's row: its last vec4 will do.
    const uint last = (p.columns - 1u) / 4u;
    const uint at = min(c, last);
    const uint block = row / 16u * p.data_stride + at / BLOCK_VECS * BLOCK_UNITS;
    const uint r = row % 16u;
    const uvec4 stored = LOAD_W(block + at % BLOCK_VECS / UNIT_VECS * 16u + r);
    vec4 value = unit_vec(stored, at % UNIT_VECS);
#if M4_DTYPE_Q4
    value -= 8.0;
#endif
#if M4_QUANTIZED
    value *= block_scales(block, r - r % 4u)[r % 4u];
#endif
    value = mask_columns(value, c * 4u, p.columns);
#endif
    STORE_Y(p.y_offset + index, value);
}
