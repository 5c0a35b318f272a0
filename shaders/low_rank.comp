// SPDX-License-Identifier: MIT
// A x of the rows' adapters, for the linears of one dispatch: K numbers become as
// many as an adapter's rank. A kernel of the engine's own, before linear.comp, which
// goes on with them (low_rank.glsl).
//
// A workgroup has one row; a lane has one row of A of one part, and of K what
// K_SPLIT leaves it. NORM: x is normed as in linear.comp.
#version 450
#extension GL_GOOGLE_include_directive : require
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
    uint first_linear;
    uint parts;
    uint most_rank;  // of the step's adapters; lanes of a part
    float eps;
} p;

#include "weights.glsl"
#include "kv_pool.glsl"
#include "adapters.glsl"

shared vec2 partial[gl_WorkGroupSize.x];

/// Four columns of x from 4 c on, and of its squares what this lane has by now.
vec4 load_x(uint row, uint c, inout float squares) {
    const vec4 x = LOAD_X(row + c);
    if (!NORM) {
        return x;
    }
    squares += dot(x, x);
    const uint last = (p.x_columns - 1u) / 4u;
    return x * mask_columns(uintBitsToFloat(LOAD_SECOND(min(c, last))), c * 4u, p.x_columns);
}

void main() {
    const uint lanes = gl_WorkGroupSize.x / K_SPLIT;
    const uint slot = gl_LocalInvocationID.x % lanes;
    const uint k = gl_LocalInvocationID.x / lanes;
    const uint wanted = gl_WorkGroupID.x * lanes + slot;
    const uint part = min(wanted / p.most_rank, p.parts - 1u);
    const uint j = wanted % p.most_rank;
    const uint t = gl_WorkGroupID.y;
    const uvec4 entry = adapter_entry(t, p.first_linear + part);
    const uint full = full_rank(entry);
    const uint halves = half_rank(entry);
    const uint row = p.x_offset + t * p.x_stride;
    float sum = 0.0;
    float squares = 0.0;
    const uint quads = j < full ? (p.x_columns + 3u) / 4u : 0u;
    for (uint c = k; c < quads; c += K_SPLIT) {
        const vec4 a = uintBitsToFloat(LOAD_ADAPTER(entry.x + c * full + j));
        sum += dot(a, load_x(row, c, squares));
    }
    const uint octets = j < halves ? (p.x_columns + 7u) / 8u : 0u;
    for (uint c = k; c < octets; c += K_SPLIT) {
        const uvec4 a = LOAD_ADAPTER(entry.x + c * halves + j);
        sum += dot(vec4(unpackHalf2x16(a.x), unpackHalf2x16(a.y)), load_x(row, 2u * c, squares)) +
               dot(vec4(unpackHalf2x16(a.z), unpackHalf2x16(a.w)),
                   load_x(row, 2u * c + 1u, squares));
    }
    vec2 whole = vec2(sum, squares);
    if (K_SPLIT > 1u) {
        partial[gl_LocalInvocationID.x] = whole;
        barrier();
        whole = vec2(0.0);
        for (uint i = 0u; i < K_SPLIT; ++i) {
            whole += partial[i * lanes + slot];
        }
    }
    const float y =
        NORM ? whole.x * inversesqrt(whole.y / float(p.x_columns) + p.eps) : whole.x;
    if (k == 0u && wanted < p.parts * p.most_rank && j < full + halves) {
        value_units[low_rank_place(t, part) + j / 4u][j % 4u] = y;
    }
}
