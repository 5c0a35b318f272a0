// SPDX-License-Identifier: MIT
// What the slices of attention.comp have becomes y. One lane four elements of a
// (row, head) pair.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(constant_id = 1) const uint SLICES = 8;
layout(constant_id = 2) const uint HEAD_DIM = 64;

layout(push_constant) uniform Push {
    uint scratch_offset;
    uint y_offset;
    uint stride;  // units of a row of y
    uint row_count;
    uint heads;
} p;

#include "heads.glsl"

const uint HEAD_VECS = (HEAD_DIM + 3u) / 4u;
const uint SLICE_UNITS = 1u + HEAD_VECS;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.row_count * p.heads * HEAD_VECS) {
        return;
    }
    const uint vec = index % HEAD_VECS;
    const uint pair = index / HEAD_VECS;
    const uint slices = p.row_count * p.heads * SLICE_UNITS;  // from one to the next
    const uint first = p.scratch_offset + pair * SLICE_UNITS;
    float highest = LOAD_X(first).x;
    for (uint s = 1u; s < SLICES; ++s) {
        highest = max(highest, LOAD_X(first + s * slices).x);
    }
    vec4 sum = vec4(0.0);
    float weight_sum = 0.0;
    for (uint s = 0u; s < SLICES; ++s) {
        const vec4 known = LOAD_X(first + s * slices);
        const float factor = exp(known.x - highest);  // of an empty slice: 0
        weight_sum += known.y * factor;
        sum += LOAD_X(first + s * slices + 1u + vec) * factor;
    }
    const uint t = pair / p.heads;
    const uint head = pair % p.heads;
    store(t, head, vec * 4u, sum / weight_sum);
    if (vec == 0u) {
        store_padding(t, head);
    }
}
