// SPDX-License-Identifier: MIT
// A 16-byte unit as floats: UNIT_VECS vec4s of consecutive elements.
#if M4_DTYPE_F16
#define UNIT_VECS 2u
vec4 unit_vec(uvec4 unit, uint index) {
    uvec2 halves = index == 0u ? unit.xy : unit.zw;
    return vec4(unpackHalf2x16(halves.x), unpackHalf2x16(halves.y));
}
#else
#define UNIT_VECS 1u
vec4 unit_vec(uvec4 unit, uint index) { return uintBitsToFloat(unit); }
#endif
#define UNIT_ELEMENTS (4u * UNIT_VECS)
