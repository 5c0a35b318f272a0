// SPDX-License-Identifier: MIT
// The KV pool and how its elements are stored, for kernels made for one type.
#include "kv_pool.glsl"
#include "unit.glsl"

#if M4_DTYPE_F16
/// unit_vec times 2^-112: sign, exponent and mantissa where a float has its own,
/// two or three operations an element in place of the four of a CPU driver's
/// conversion. Exact, save that infinities come out as 65536 and, where a driver
/// flushes what is smaller than normal floats, halves below 2^-14 as zero.
vec4 shifted_halves(uvec4 unit, uint index) {
    const uvec2 halves = index == 0u ? unit.xy : unit.zw;
    const uvec4 tops = uvec4(halves.x << 16, halves.x, halves.y << 16, halves.y);
    return uintBitsToFloat(uvec4(ivec4(tops) >> 3) & 0x8fffe000u);
}
#endif

// Q8: behind a head's units of 16 elements lie its scales, F32, one for a block
// of 32 elements and four to a unit. Byte v of word c is element 4 v + c, and
// the bytes below it in its word are its fraction, so that a word shifted until
// the byte is on top is the element as it stands, with nothing to be masked:
// times 2^24, by which the scales are smaller. kv_write rounds accordingly.
#if M4_DTYPE_Q8
const uint KV_BLOCK_UNITS = 2;   // that share a scale
const uint KV_SCALED_UNITS = 8;  // whose scales fill a unit
#define KV_SCALE_UNITS(units) ((units + KV_SCALED_UNITS - 1u) / KV_SCALED_UNITS)
vec4 fixed_point(uvec4 unit, uint index) { return vec4(ivec4(unit << (24u - 8u * index))); }
#else
#define KV_SCALE_UNITS(units) 0u
#endif
