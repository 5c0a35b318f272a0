// SPDX-License-Identifier: MIT
// A tensor of the image, as 16-byte units: set 1, and set 2 for the second
// tensor of an operator (always F32).
#if M4_ACCESS_TEXEL
layout(set = 1, binding = 0) uniform utextureBuffer weight_texels;
layout(set = 2, binding = 0) uniform utextureBuffer second_texels;
#define LOAD_W(unit) texelFetch(weight_texels, int(unit))
#define LOAD_SECOND(unit) texelFetch(second_texels, int(unit))
#else
layout(set = 1, binding = 1, std430) readonly buffer WeightUnits {
    uvec4 weight_units[];
};
layout(set = 2, binding = 1, std430) readonly buffer SecondUnits {
    uvec4 second_units[];
};
#define LOAD_W(unit) weight_units[unit]
#define LOAD_SECOND(unit) second_units[unit]
#endif

#include "unit.glsl"
