// SPDX-License-Identifier: MIT
// y = x weight^T + bias; weight is ROWS16. A lane computes 4 rows of the
// weight (a quad, one unit of y) for M4_TILE rows of the step. K_SPLIT lanes
// share a quad, each a part of K: 1 where lanes are dear (a CPU), more where a
// small matrix would leave a GPU idle.
//
// M4_NEEDS_SUBGROUP8: the eight lanes of a subgroup want the same x, so each
// loads an eighth of the block and takes the others' by shuffles. On a CPU
// driver a load costs as much as some forty arithmetic operations, a shuffle
// from a known lane as much as one. Needs K_SPLIT = 1.
#version 450
#extension GL_GOOGLE_include_directive : require
#if M4_NEEDS_SUBGROUP8
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#include "values.glsl"
#include "weights.glsl"

layout(constant_id = 1) const uint K_SPLIT = 1;

layout(push_constant) uniform Push {
    uint x_offset;
    uint x_stride;
    uint y_offset;
    uint y_stride;     // also the quads that are written, padding included
    uint group_units;  // units of 16 rows of the weight
    uint blocks;       // whole blocks of 32 columns
    uint tail_units;   // of a row, behind its blocks; quantised: 0
    uint columns;      // of y: rows of the weight
    uint t_first;      // rows of the step: [t_first, t_end)
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
    const uint r = n % 16u;
    const uint group = n / 16u * p.group_units;
    const uint t0 = p.t_first + gl_WorkGroupID.y * M4_TILE;

    uint x_row[M4_TILE];
    vec4 sum[M4_TILE];
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        x_row[i] = p.x_offset + min(t0 + i, p.t_end - 1u) * p.x_stride;
        sum[i] = vec4(0.0);
    }
    for (uint b = part; b < p.blocks; b += K_SPLIT) {
        const uint block = group + b * BLOCK_UNITS;
        vec4 products[M4_TILE];
        vec4 x_sum[M4_TILE];
        [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
            products[i] = vec4(0.0);
            x_sum[i] = vec4(0.0);
        }
#if M4_NEEDS_SUBGROUP8
        vec4 share[M4_TILE];
        [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
            share[i] = LOAD_X(x_row[i] + b * BLOCK_VECS + gl_SubgroupInvocationID % BLOCK_VECS);
        }
#endif
        [[unroll]] for (uint u = 0u; u < BLOCK_ROW_UNITS; ++u) {
            const uint at = block + u * 16u + r;
            const uvec4 w0 = LOAD_W(at);
            const uvec4 w1 = LOAD_W(at + 1u);
            const uvec4 w2 = LOAD_W(at + 2u);
            const uvec4 w3 = LOAD_W(at + 3u);
            [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
                const vec4 w_a = unit_vec(w0, v);
                const vec4 w_b = unit_vec(w1, v);
                const vec4 w_c = unit_vec(w2, v);
                const vec4 w_d = unit_vec(w3, v);
                [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
#if M4_NEEDS_SUBGROUP8
                    const vec4 x = subgroupShuffle(share[i], u * UNIT_VECS + v);
#else
                    const vec4 x = LOAD_X(x_row[i] + b * BLOCK_VECS + u * UNIT_VECS + v);
#endif
                    products[i] += vec4(dot(w_a, x), dot(w_b, x), dot(w_c, x), dot(w_d, x));
#if M4_DTYPE_Q4
                    x_sum[i] += x;
#endif
                }
            }
        }
#if M4_QUANTIZED
        const vec4 scales = block_scales(block, r);
#else
        const vec4 scales = vec4(1.0);
#endif
        [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
#if M4_DTYPE_Q4
            products[i] -= 8.0 * dot(x_sum[i], vec4(1.0));
#endif
            sum[i] += scales * products[i];
        }
    }
#if !M4_QUANTIZED
    const uint tail_x = p.blocks * BLOCK_VECS;
    const uint tail = group + p.blocks * BLOCK_UNITS + r;
    for (uint u = part; u < p.tail_units; u += K_SPLIT) {
        const uvec4 w0 = LOAD_W(tail + u * 16u);
        const uvec4 w1 = LOAD_W(tail + u * 16u + 1u);
        const uvec4 w2 = LOAD_W(tail + u * 16u + 2u);
        const uvec4 w3 = LOAD_W(tail + u * 16u + 3u);
        [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
            [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
                const vec4 x = LOAD_X(x_row[i] + tail_x + u * UNIT_VECS + v);
                sum[i] += vec4(dot(unit_vec(w0, v), x), dot(unit_vec(w1, v), x),
                               dot(unit_vec(w2, v), x), dot(unit_vec(w3, v), x));
            }
        }
    }
#endif
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
