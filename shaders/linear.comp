// SPDX-License-Identifier: MIT
// y = x weight^T + bias; weight is ROWS16. A lane computes 4 rows of the
// weight (a quad, one unit of y) for M4_TILE rows of the step. K_SPLIT lanes
// share a quad, each a part of K: 1 where lanes are dear (a CPU), more where a
// small matrix would leave a GPU idle.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#include "weights.glsl"

layout(constant_id = 1) const uint K_SPLIT = 1;

layout(push_constant) uniform Push {
    uint x_offset;
    uint x_stride;
    uint y_offset;
    uint y_stride;   // also the quads that are written, padding included
    uint row_units;  // units of a weight row
    uint columns;    // of y: rows of the weight
    uint t_first;    // rows of the step: [t_first, t_end)
    uint t_end;
    uint has_bias;
} p;

shared vec4 partial[gl_WorkGroupSize.x];

void main() {
    const uint quads = gl_WorkGroupSize.x / K_SPLIT;
    const uint slot = gl_LocalInvocationID.x % quads;
    const uint part = gl_LocalInvocationID.x / quads;
    const uint quad = gl_WorkGroupID.x * quads + slot;
    // Lanes past the end compute the last quad once more: flow stays uniform.
    const uint n = min(quad, p.y_stride - 1u) * 4u;
    const uint weight_base = (n / 16u * p.row_units) * 16u + n % 16u;
    const uint t0 = p.t_first + gl_WorkGroupID.y * M4_TILE;

    uint x_row[M4_TILE];
    vec4 sum[M4_TILE];
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        x_row[i] = p.x_offset + min(t0 + i, p.t_end - 1u) * p.x_stride;
        sum[i] = vec4(0.0);
    }
    for (uint u = part; u < p.row_units; u += K_SPLIT) {
        const uint at = weight_base + u * 16u;
        const uvec4 w0 = LOAD_W(at);
        const uvec4 w1 = LOAD_W(at + 1u);
        const uvec4 w2 = LOAD_W(at + 2u);
        const uvec4 w3 = LOAD_W(at + 3u);
        [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
            const vec4 a = unit_vec(w0, v);
            const vec4 b = unit_vec(w1, v);
            const vec4 c = unit_vec(w2, v);
            const vec4 d = unit_vec(w3, v);
            [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
                const vec4 x = LOAD_X(x_row[i] + u * UNIT_VECS + v);
                sum[i] += vec4(dot(a, x), dot(b, x), dot(c, x), dot(d, x));
            }
        }
    }
    vec4 bias = vec4(0.0);
    if (p.has_bias != 0u) {
        const uint last = (p.columns - 1u) / 4u;
        bias = mask_columns(uintBitsToFloat(LOAD_SECOND(min(n / 4u, last))), n, p.columns);
    }
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        if (K_SPLIT > 1u) {
            barrier();
            partial[gl_LocalInvocationID.x] = sum[i];
            barrier();
            sum[i] = vec4(0.0);
            for (uint k = 0u; k < K_SPLIT; ++k) {
                sum[i] += partial[k * quads + slot];
            }
        }
        if (part == 0u && quad < p.y_stride && t0 + i < p.t_end) {
            STORE_Y(p.y_offset + (t0 + i) * p.y_stride + quad, sum[i] + bias);
        }
    }
}
