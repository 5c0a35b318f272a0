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
//
// M4_KV_WRITE: the kernel writes it, else it reads.
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
