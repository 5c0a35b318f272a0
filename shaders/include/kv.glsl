// SPDX-License-Identifier: MIT
// The KV pool: one buffer of 16-byte units, in pages. A page has room for
// PAGE_POSITIONS positions, a power of two and specialisation constant of the
// kernel. Inside:
//
//   layer, head, keys then values, position, units of the head
//
// A row of the step names the page table of its sequence: word j is the first
// unit of page j. A head is padded to whole units with zeros. Positions past a
// row's own are never read, so what a page held before does not matter.
#include "unit.glsl"

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

/// First unit of the page that holds `position`; `table`: the row's page table.
uint kv_page(uint table, uint position) { return LOAD_STEP(table + position / PAGE_POSITIONS); }

/// Where, in a page, a head's keys begin; its values are PAGE_POSITIONS *
/// head_units behind them. `layer_units`: units a position takes in all layers
/// before this one; `head_units`: in one head.
uint kv_head(uint layer_units, uint head_units, uint head) {
    return PAGE_POSITIONS * (layer_units + head * 2u * head_units);
}
