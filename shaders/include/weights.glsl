// SPDX-License-Identifier: MIT
// Tensors of the image, as 16-byte units: the operator's first in set 1, in
// sets 2 and 3 its second and third (always F32).
// M4_ACCESS_ADDRESS: the first by its address, p.weight_address of the kernel's
// push constants; the others as texels.
#if M4_ACCESS_ADDRESS
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer WeightUnits {
    uvec4 units[];
};
#define LOAD_W(unit) WeightUnits(p.weight_address).units[unit]
#elif M4_ACCESS_TEXEL
layout(set = 1, binding = 0) uniform utextureBuffer weight_texels;
#define LOAD_W(unit) texelFetch(weight_texels, int(unit))
#endif
#if M4_ACCESS_TEXEL
layout(set = 2, binding = 0) uniform utextureBuffer second_texels;
layout(set = 3, binding = 0) uniform utextureBuffer third_texels;
#define LOAD_SECOND(unit) texelFetch(second_texels, int(unit))
#define LOAD_THIRD(unit) texelFetch(third_texels, int(unit))
#else
layout(set = 1, binding = 1, std430) readonly buffer WeightUnits {
    uvec4 weight_units[];
};
layout(set = 2, binding = 1, std430) readonly buffer SecondUnits {
    uvec4 second_units[];
};
layout(set = 3, binding = 1, std430) readonly buffer ThirdUnits {
    uvec4 third_units[];
};
#define LOAD_W(unit) weight_units[unit]
#define LOAD_SECOND(unit) second_units[unit]
#define LOAD_THIRD(unit) third_units[unit]
#endif

#include "unit.glsl"

// ROWS16 by blocks of 32 columns. A quantised block is a tile of the image;
// full floats have the units that hold as many columns, and may end in less.
#define BLOCK_VECS 8u
#define BLOCK_ROW_UNITS (BLOCK_VECS / UNIT_VECS)
#if M4_DTYPE_Q8 || M4_DTYPE_Q4
#define M4_QUANTIZED 1
#define BLOCK_UNITS (16u * BLOCK_ROW_UNITS + 2u)
#else
#define M4_QUANTIZED 0
#define BLOCK_UNITS (16u * BLOCK_ROW_UNITS)
#endif

#if M4_QUANTIZED
/// Scales of rows r to r + 3 of the block at `block`; r is a multiple of 4.
vec4 block_scales(uint block, uint r) {
    const uvec4 eight = LOAD_W(block + 16u * BLOCK_ROW_UNITS + r / 8u);
    const uvec2 four = (r & 4u) != 0u ? eight.zw : eight.xy;
    return vec4(unpackHalf2x16(four.x), unpackHalf2x16(four.y));
}
#endif
