// SPDX-License-Identifier: MIT
// The KV pool: one buffer of 16-byte units, in pages. A page has room for
// PAGE_POSITIONS positions, a power of two and specialisation constant of the
// kernel, of all layers and heads. It is no piece of the buffer, which is
//
//   layer, head, keys then values, page, position, units of the head
//
// so that a head's pages of neighbouring numbers lie side by side. A row of the
// step names the page table of its sequence: word j is the number of page j. A
// head is padded to whole units with zeros. Positions past a row's own are
// never read, so what a page held before does not matter.
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

#if M4_ACCESS_TEXEL
#if M4_KV_WRITE
layout(set = 0, binding = 4, rgba32ui) uniform writeonly uimageBuffer kv_image;
#define STORE_KV(unit, value) imageStore(kv_image, int(unit), value)
#else
layout(set = 0, binding = 3) uniform utextureBuffer kv_texels;
#define LOAD_KV(unit) texelFetch(kv_texels, int(unit))
#endif
layout(set = 0, binding = 6) uniform utextureBuffer step_texels;
#define LOAD_STEP(word) texelFetch(step_texels, int(word)).x
#else
layout(set = 0, binding = 5, std430) buffer KvUnits {
    uvec4 kv_units[];
};
#define LOAD_KV(unit) kv_units[unit]
#define STORE_KV(unit, value) kv_units[unit] = (value)
#define LOAD_STEP(word) step_words[word]
#endif

/// The page that holds `position`, as units behind the first page of keys or of
/// values. `table`: the row's page table; `head_units`: of a head.
uint kv_page(uint table, uint position, uint head_units) {
    return LOAD_STEP(table + position / PAGE_POSITIONS) * (PAGE_POSITIONS * head_units);
}

/// First unit of a head's keys in page 0; its values are pool_positions *
/// head_units behind them. `layer_units`: units a position takes in all layers before this
/// one; `pool_positions`: of all pages.
uint kv_head(uint layer_units, uint head_units, uint head, uint pool_positions) {
    return pool_positions * (layer_units + head * 2u * head_units);
}
