// SPDX-License-Identifier: MIT
// Stores the rows' keys and values at their positions. One lane a unit of the
// keys and the same of the values.
#version 450
#extension GL_GOOGLE_include_directive : require
#define M4_KV_WRITE 1
#include "values.glsl"

layout(constant_id = 1) const uint PAGE_POSITIONS = 64;

#include "kv.glsl"

layout(push_constant) uniform Push {
    uint k_offset;
    uint v_offset;
    uint stride;  // units of a row, of k and v
    uint row_count;
    uint positions_word;
    uint tables_word;
    uint layer_units;
    uint pool_positions;
    uint kv_heads;
    uint head_dim;
    uint head_units;
} p;

uvec4 pack_unit(uint row_unit, uint head, uint unit) {
    const bool aligned = p.head_dim % 4u == 0u;
    const uint i = unit * UNIT_ELEMENTS;
    vec4 v[UNIT_VECS];
    [[unroll]] for (uint k = 0u; k < UNIT_VECS; ++k) {
        // Past the head's end, and past the row's: masked, and the arena has slack.
        const uint element = head * p.head_dim + i + k * 4u;
        v[k] = mask_columns(load_elements(row_unit, element, aligned), i + k * 4u, p.head_dim);
    }
#if M4_DTYPE_F16
    return uvec4(packHalf2x16(v[0].xy), packHalf2x16(v[0].zw), packHalf2x16(v[1].xy),
                 packHalf2x16(v[1].zw));
#else
    return floatBitsToUint(v[0]);
#endif
}

void main() {
    const uint index = gl_GlobalInvocationID.x;
    const uint row_units = p.kv_heads * p.head_units;
    if (index >= p.row_count * row_units) {
        return;
    }
    const uint t = index / row_units;
    const uint head = index % row_units / p.head_units;
    const uint unit = index % p.head_units;
    const uint position = LOAD_STEP(p.positions_word + t);
    const uint keys = kv_head(p.layer_units, p.head_units, head, p.pool_positions) +
                      kv_page(LOAD_STEP(p.tables_word + t), position, p.head_units) +
                      position % PAGE_POSITIONS * p.head_units + unit;
    STORE_KV(keys, pack_unit(p.k_offset + t * p.stride, head, unit));
    STORE_KV(keys + p.pool_positions * p.head_units, pack_unit(p.v_offset + t * p.stride, head, unit));
}
