// SPDX-License-Identifier: MIT
// The KV pool: one buffer of 16-byte units. A sequence owns a region; a row of
// the step names it by its first unit and its capacity in positions. Inside:
//
//   layer, keys then values, head, position, units of the head
//
// A head is padded to whole units with zeros. Positions past a row's own are
// never read, so what a region held before does not matter.
#include "unit.glsl"

#if M4_ACCESS_TEXEL
#if M4_KV_WRITE
layout(set = 0, binding = 4, rgba32ui) uniform writeonly uimageBuffer kv_image;
#define STORE_KV(unit, value) imageStore(kv_image, int(unit), value)
#else
layout(set = 0, binding = 3) uniform utextureBuffer kv_texels;
#define LOAD_KV(unit) texelFetch(kv_texels, int(unit))
#endif
#else
layout(set = 0, binding = 5, std430) buffer KvUnits {
    uvec4 kv_units[];
};
#define LOAD_KV(unit) kv_units[unit]
#define STORE_KV(unit, value) kv_units[unit] = (value)
#endif

/// First unit of a head's keys at position 0. `layer_units`: units a position
/// takes in all layers before this one; `head_units`: in one head.
uint kv_head_unit(uint base, uint capacity, uint layer_units, uint head_units, uint head) {
    return base + capacity * (layer_units + head * head_units);
}
