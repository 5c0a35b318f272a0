// SPDX-License-Identifier: MIT
// scale A x of the rows' adapters, for the linears of one dispatch: K numbers become as
// many as an adapter's rank. A kernel of the engine's own, before linear.comp, which
// goes on with them (low_rank.glsl).
//
// A workgroup has one row; a lane has one row of A of one part, and of K what
// K_SPLIT leaves it. NORM: x is normed as in linear.comp. The step says at word
// ADAPTERS_WORD + t where row t's adapter begins; 0: it has none.
//
// M4_NEEDS_SUBGROUP8: as in linear.comp, the lanes of a subgroup share loads of x. Their
// rows of A are of one part, of which there is a multiple of eight.
#version 450
#extension GL_GOOGLE_include_directive : require
#if M4_NEEDS_SUBGROUP8
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#define M4_KV_WRITE 1
#include "values.glsl"

layout(constant_id = 1) const uint K_SPLIT = 1;
layout(constant_id = 2) const bool NORM = false;
layout(constant_id = 3) const uint ADAPTERS_WORD = 0;
layout(constant_id = 4) const uint LOW_RANK_UNIT = 0;
const uint PAGE_POSITIONS = 64;  // of kv_pool.glsl, which is read for the step's words

layout(push_constant) uniform Push {
    uint x_offset;
    uint x_stride;
    uint x_columns;
    uint first_linear;  // of the program's linears, the first part
    uint parts;
    uint most_rank;  // of the step's adapters; lanes of a part
    float eps;
} p;

#include "weights.glsl"
#include "kv_pool.glsl"
#include "adapters.glsl"

shared vec2 partial[gl_WorkGroupSize.x];

/// Columns 4 c to 4 c + 3 of x, zeros past its end; `squares` of all that came.
vec4 load_x(uint row, uint c, inout float squares) {
    const bool inside = c * 4u < p.x_columns;
    const vec4 x = inside ? LOAD_X(row + c) : vec4(0.0);
    if (!NORM) {
        return x;
    }
    squares += dot(x, x);
    const uint last = (p.x_columns - 1u) / 4u;
    return x * mask_columns(uintBitsToFloat(LOAD_SECOND(min(c, last))), c * 4u, p.x_columns);
}

vec4 low_half(uvec4 unit) { return vec4(unpackHalf2x16(unit.x), unpackHalf2x16(unit.y)); }
vec4 high_half(uvec4 unit) { return vec4(unpackHalf2x16(unit.z), unpackHalf2x16(unit.w)); }

/// Of row j of A what lane k of K_SPLIT has; a rank of 0: nothing.
vec2 products(uvec4 entry, uint full, uint halves, uint row, uint j, uint k) {
    float sum = 0.0;
    float squares = 0.0;
#if M4_NEEDS_SUBGROUP8
    const uint lane = gl_SubgroupInvocationID % 8u;
    const uint units = (p.x_columns + 3u) / 4u;
    const uint full_units = full != 0u ? units : 0u;
    for (uint c = 0u; c < full_units; c += 8u) {
        const vec4 share = load_x(row, c + lane, squares);
        [[unroll]] for (uint i = 0u; i < 8u; ++i) {
            const uint at = c + i < units && j < full ? entry.x + (c + i) * full + j : 0u;
            sum += dot(uintBitsToFloat(LOAD_ADAPTER(at)), subgroupShuffle(share, i));
        }
    }
    const uint half_units = halves != 0u ? units : 0u;
    for (uint c = 0u; c < half_units; c += 8u) {
        const vec4 share = load_x(row, c + lane, squares);
        [[unroll]] for (uint i = 0u; i < 8u; i += 2u) {
            const uint at = c + i < units && j < halves ? entry.x + (c + i) / 2u * halves + j : 0u;
            const uvec4 a = LOAD_ADAPTER(at);
            sum += dot(low_half(a), subgroupShuffle(share, i)) +
                   dot(high_half(a), subgroupShuffle(share, i + 1u));
        }
    }
    squares += subgroupShuffleXor(squares, 1u);
    squares += subgroupShuffleXor(squares, 2u);
    squares += subgroupShuffleXor(squares, 4u);
#else
    const uint quads = j < full ? (p.x_columns + 3u) / 4u : 0u;
    for (uint c = k; c < quads; c += K_SPLIT) {
        const vec4 a = uintBitsToFloat(LOAD_ADAPTER(entry.x + c * full + j));
        sum += dot(a, load_x(row, c, squares));
    }
    const uint octets = j < halves ? (p.x_columns + 7u) / 8u : 0u;
    for (uint c = k; c < octets; c += K_SPLIT) {
        const uvec4 a = LOAD_ADAPTER(entry.x + c * halves + j);
        sum += dot(low_half(a), load_x(row, 2u * c, squares)) +
               dot(high_half(a), load_x(row, 2u * c + 1u, squares));
    }
#endif
    return vec2(sum, squares);
}

void main() {
    const uint lanes = gl_WorkGroupSize.x / K_SPLIT;
    const uint slot = gl_LocalInvocationID.x % lanes;
    const uint k = gl_LocalInvocationID.x / lanes;
    const uint wanted = gl_WorkGroupID.x * lanes + slot;
    const uint part = min(wanted / p.most_rank, p.parts - 1u);
    const uint j = wanted % p.most_rank;
    const uint t = gl_WorkGroupID.y;
    const uint adapter = LOAD_STEP(ADAPTERS_WORD + t);
    // Of no adapter the pool's first unit: of rank 0.
    const uvec4 entry = LOAD_ADAPTER(adapter != 0u ? adapter + p.first_linear + part : 0u);
    const uint full = (entry.z & HALVES) != 0u ? 0u : entry.z;
    const uint halves = (entry.z & HALVES) != 0u ? entry.z ^ HALVES : 0u;
    vec2 whole = products(entry, full, halves, p.x_offset + t * p.x_stride, j, k);
    if (K_SPLIT > 1u) {
        partial[gl_LocalInvocationID.x] = whole;
        barrier();
        whole = vec2(0.0);
        for (uint i = 0u; i < K_SPLIT; ++i) {
            whole += partial[i * lanes + slot];
        }
    }
    float y = whole.x * uintBitsToFloat(entry.w);
    if (NORM) {
        y *= inversesqrt(whole.y / float(p.x_columns) + p.eps);
    }
    const uint place = low_rank_place(t, part);
    if (k == 0u && wanted < p.parts * p.most_rank) {
        value_units[place + 1u + j / 4u][j % 4u] = j < full + halves ? y : 0.0;
        if (j == 0u) {
            STORE_Y(place, vec4(float(entry.y / 4096u), float(entry.y % 4096u),
                                float(full + halves), halves != 0u ? 1.0 : 0.0));
        }
    }
}
