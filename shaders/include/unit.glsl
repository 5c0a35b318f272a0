// SPDX-License-Identifier: MIT
// A 16-byte unit of stored elements as floats: UNIT_VECS vec4s, each of four
// neighbours of a row. Quantised elements come without their scale, and those
// of Q4 with 8 still to be subtracted (firmware/include/m4/image.h).
#if M4_DTYPE_F16
#define UNIT_VECS 2u
vec4 unit_vec(uvec4 unit, uint index) {
    uvec2 halves = index == 0u ? unit.xy : unit.zw;
    return vec4(unpackHalf2x16(halves.x), unpackHalf2x16(halves.y));
}
#elif M4_DTYPE_Q8
#define UNIT_VECS 4u
vec4 unit_vec(uvec4 unit, uint index) { return vec4(ivec4(unit << (24u - 8u * index)) >> 24); }
#elif M4_DTYPE_Q4
#define UNIT_VECS 8u
vec4 unit_vec(uvec4 unit, uint index) { return vec4((unit >> (4u * index)) & 15u); }
#else
#define UNIT_VECS 1u
vec4 unit_vec(uvec4 unit, uint index) { return uintBitsToFloat(unit); }
#endif
#define UNIT_ELEMENTS (4u * UNIT_VECS)
