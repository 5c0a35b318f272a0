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
    uint data_stride;  // units of a row: of the value, or of the tensor
    uint y_offset;
    uint y_stride;
    uint row_count;
    uint rows_word;  // first word of rows[] in the step buffer
    uint columns;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.row_count * p.y_stride) {
        return;
    }
    const uint t = index / p.y_stride;
    const uint c = index % p.y_stride;
    const uint row = step_words[p.rows_word + t];
#if M4_DTYPE_ANY
    const vec4 value = LOAD_X(p.data_offset + row * p.data_stride + c);
#else
    const uint unit = min(c / UNIT_VECS, p.data_stride - 1u);
    const uvec4 stored = LOAD_W((row / 16u * p.data_stride + unit) * 16u + row % 16u);
    const vec4 value = mask_columns(unit_vec(stored, c % UNIT_VECS), c * 4u, p.columns);
#endif
    STORE_Y(p.y_offset + index, value);
}
