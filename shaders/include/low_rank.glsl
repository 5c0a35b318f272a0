// SPDX-License-Identifier: MIT
// What a row's adapter adds to a linear: scale B (A x), where low_rank.comp has left
// A x in the arena.
#include "adapters.glsl"

/// Of quad `quad` of part `part` of this dispatch.
vec4 low_rank(uint t, uint part, uint quad) {
    const uvec4 entry = adapter_entry(t, p.first_linear + part);
    const uint place = low_rank_place(t, part);
    vec4 y = vec4(0.0);
    const uint full = full_rank(entry);
    for (uint j = 0u; j < full; j += 4u) {
        const vec4 v = LOAD_X(place + j / 4u);
        const uint at = entry.y + quad * full + j;
        y += uintBitsToFloat(LOAD_ADAPTER(at)) * v.x + uintBitsToFloat(LOAD_ADAPTER(at + 1u)) * v.y +
             uintBitsToFloat(LOAD_ADAPTER(at + 2u)) * v.z +
             uintBitsToFloat(LOAD_ADAPTER(at + 3u)) * v.w;
    }
    const uint halves = half_rank(entry);
    for (uint j = 0u; j < halves; j += 4u) {
        const vec4 v = LOAD_X(place + j / 4u);
        const uint at = entry.y + (quad * halves + j) / 2u;
        const uvec4 first = LOAD_ADAPTER(at);
        const uvec4 second = LOAD_ADAPTER(at + 1u);
        y += vec4(unpackHalf2x16(first.x), unpackHalf2x16(first.y)) * v.x +
             vec4(unpackHalf2x16(first.z), unpackHalf2x16(first.w)) * v.y +
             vec4(unpackHalf2x16(second.x), unpackHalf2x16(second.y)) * v.z +
             vec4(unpackHalf2x16(second.z), unpackHalf2x16(second.w)) * v.w;
    }
    return y * uintBitsToFloat(entry.w);
}
