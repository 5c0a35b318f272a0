// SPDX-License-Identifier: MIT
// What a row's adapter adds to a linear: B of what low_rank.comp has left in the arena.
//
// CPU drivers run both sides of a condition, so there is none: what a row does not have
// is read at the pool's first unit, which is zeros.
#include "adapters.glsl"

/// Four numbers times their columns of B, from unit `at` on; 0: there are none.
vec4 times_floats(uint at, vec4 v) {
    const uint next = at == 0u ? 0u : 1u;
    return uintBitsToFloat(LOAD_ADAPTER(at)) * v.x +
           uintBitsToFloat(LOAD_ADAPTER(at + next)) * v.y +
           uintBitsToFloat(LOAD_ADAPTER(at + 2u * next)) * v.z +
           uintBitsToFloat(LOAD_ADAPTER(at + 3u * next)) * v.w;
}
vec4 times_halves(uint at, vec4 v) {
    const uvec4 first = LOAD_ADAPTER(at);
    const uvec4 second = LOAD_ADAPTER(at + (at == 0u ? 0u : 1u));
    return vec4(unpackHalf2x16(first.x), unpackHalf2x16(first.y)) * v.x +
           vec4(unpackHalf2x16(first.z), unpackHalf2x16(first.w)) * v.y +
           vec4(unpackHalf2x16(second.x), unpackHalf2x16(second.y)) * v.z +
           vec4(unpackHalf2x16(second.z), unpackHalf2x16(second.w)) * v.w;
}

/// Of quad `quad` of part `part` of this dispatch.
vec4 low_rank(uint t, uint part, uint quad) {
    const uint place = low_rank_place(t, part);
    vec4 y = vec4(0.0);
    uint first = 0u;
    uint rank = 0u;
    bool halves = false;
    for (uint c = 0u; c <= MOST_RANK / 4u; c += 8u) {
#if M4_NEEDS_SUBGROUP8
        const vec4 mine = LOAD_X(place + c + gl_SubgroupInvocationID % 8u);
#define LOW_RANK_UNIT_AT(i) subgroupShuffle(mine, i)
#else
#define LOW_RANK_UNIT_AT(i) LOAD_X(place + c + i)
#endif
        if (c == 0u) {
            const vec4 head = LOW_RANK_UNIT_AT(0u);
            first = uint(head.x) * 4096u + uint(head.y);
            rank = uint(head.z);
            halves = head.w != 0.0;
        }
        [[unroll]] for (uint i = 0u; i < 8u; ++i) {
            if (c + i == 0u || c + i > MOST_RANK / 4u) {
                continue;
            }
            const vec4 v = LOW_RANK_UNIT_AT(i);
            const uint j = (c + i) * 4u - 4u;
            const uint at = quad * rank + j;
            const bool wanted = j < rank;
            if ((ADAPTER_FORMS & WITH_FLOATS) != 0u) {
                y += times_floats(wanted && !halves ? first + at : 0u, v);
            }
            if ((ADAPTER_FORMS & WITH_HALVES) != 0u) {
                y += times_halves(wanted && halves ? first + at / 2u : 0u, v);
            }
        }
    }
    return y;
}
