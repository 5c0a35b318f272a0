// SPDX-License-Identifier: MIT
// Stores the rows' keys and values at their positions. One lane a unit of the
// keys and the same of the values; of Q8 a head of the keys or of the values.
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

/// First unit of row t's head in the keys.
uint row_keys(uint t, uint head) {
    const uint position = LOAD_STEP(p.positions_word + t);
    return kv_head(p.layer_units, p.head_units, head, p.pool_positions) +
           kv_page(LOAD_STEP(p.tables_word + t), position, p.head_units) +
           position % PAGE_POSITIONS * p.head_units;
}

void load_unit(uint row_unit, uint head, uint unit, out vec4 v[UNIT_VECS]) {
    const bool aligned = p.head_dim % 4u == 0u;
    const uint i = unit * UNIT_ELEMENTS;
    [[unroll]] for (uint k = 0u; k < UNIT_VECS; ++k) {
        // Past the head's end, and past the row's: masked, and the arena has slack.
        const uint element = head * p.head_dim + i + k * 4u;
        v[k] = mask_columns(load_elements(row_unit, element, aligned), i + k * 4u, p.head_dim);
    }
}

#if M4_DTYPE_Q8
const float LARGEST = 127.0;

/// Each byte rounded to what is nearest with the bytes below it as its fraction.
uvec4 pack_fixed_point(vec4 v[UNIT_VECS], float per_step) {
    uvec4 unit = uvec4(0u);
    float fraction = 1.0;
    [[unroll]] for (uint k = 0u; k < UNIT_VECS; ++k) {
        const vec4 steps = floor(v[k] * per_step - vec4(unit) * fraction + 0.5);
        unit |= (uvec4(ivec4(clamp(steps, -128.0, LARGEST))) & 255u) << (8u * k);
        fraction /= 256.0;
    }
    return unit;
}

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.row_count * p.kv_heads * 2u) {
        return;
    }
    const bool is_value = index % 2u != 0u;
    const uint head = index / 2u % p.kv_heads;
    const uint t = index / 2u / p.kv_heads;
    const uint stored = row_keys(t, head) + (is_value ? p.pool_positions * p.head_units : 0u);
    const uint row_unit = (is_value ? p.v_offset : p.k_offset) + t * p.stride;
    const uint units = (p.head_dim + UNIT_ELEMENTS - 1u) / UNIT_ELEMENTS;
    vec4 scales = vec4(0.0);
    for (uint u = 0u; u < units; u += KV_BLOCK_UNITS) {
        vec4 v[KV_BLOCK_UNITS][UNIT_VECS];
        vec4 largest = vec4(0.0);
        [[unroll]] for (uint i = 0u; i < KV_BLOCK_UNITS; ++i) {
            load_unit(row_unit, head, u + i, v[i]);
            [[unroll]] for (uint k = 0u; k < UNIT_VECS; ++k) {
                largest = max(largest, abs(v[i][k]));
            }
        }
        const vec2 pair = max(largest.xy, largest.zw);
        // Zeros have a scale, too, and infinities one that is finite.
        const float most = clamp(max(pair.x, pair.y), 1e-30, 1e30);
        [[unroll]] for (uint i = 0u; i < KV_BLOCK_UNITS; ++i) {
            if (u + i < units) {
                STORE_KV(stored + u + i, pack_fixed_point(v[i], LARGEST / most));
            }
        }
        const uint block = u % KV_SCALED_UNITS / KV_BLOCK_UNITS;
        const vec4 scale = vec4(most / LARGEST / 16777216.0);
        scales = mix(scales, scale, equal(uvec4(block), uvec4(0u, 1u, 2u, 3u)));
        if (block == 3u || u + KV_BLOCK_UNITS >= units) {
            STORE_KV(stored + units + u / KV_SCALED_UNITS, floatBitsToUint(scales));
        }
    }
}
#else
uvec4 pack_unit(uint row_unit, uint head, uint unit) {
    vec4 v[UNIT_VECS];
    load_unit(row_unit, head, unit, v);
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
    const uint keys = row_keys(t, head) + unit;
    STORE_KV(keys, pack_unit(p.k_offset + t * p.stride, head, unit));
    STORE_KV(keys + p.pool_positions * p.head_units, pack_unit(p.v_offset + t * p.stride, head, unit));
}
#endif
