// SPDX-License-Identifier: MIT
// y = softmax(scale q k^T) v over the rows of an item, or up to the row's own,
// with the heads in groups that share a KV head. Online softmax (Milakov and
// Gimelshein 2018, arXiv 1805.02867), one lane a (row, head) pair.
//
// M4_NEEDS_SUBGROUP8: the eight lanes of a subgroup have neighbouring rows of one
// head and item, which want the same keys and values. Each lane loads one of eight
// keys and passes it around by shuffles, then one of their values: on a CPU driver
// a load costs as much as some forty arithmetic operations, a shuffle from a known
// lane as much as one. The maximum is renewed once for eight.
#version 450
#extension GL_GOOGLE_include_directive : require
#if M4_NEEDS_SUBGROUP8
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#include "values.glsl"

layout(constant_id = 1) const uint HEAD_DIM = 64;
layout(constant_id = 2) const bool CAUSAL = false;

layout(push_constant) uniform Push {
    uint q_offset;
    uint k_offset;
    uint v_offset;
    uint y_offset;
    uint stride;     // units of a row, of q and y
    uint kv_stride;  // likewise of k and v
    uint row_count;
    uint item_rows;     // of q
    uint item_kv_rows;  // of k and v
    uint heads;
    uint kv_heads;
    float scale;
} p;

#include "heads.glsl"

const uint VECS = (HEAD_DIM + 3u) / 4u;
const float LOWEST = -3.0e38;

/// Four elements of head `head` of row t of q, from `i` on, times the scale.
vec4 load_query(uint t, uint head, uint i) {
    const vec4 q = load_elements(p.q_offset + t * p.stride, head * HEAD_DIM + i, ALIGNED);
    return mask_columns(q * p.scale, i, HEAD_DIM);
}

#if M4_NEEDS_SUBGROUP8
const uint LANES = 8;

void main() {
    const uint lane = gl_SubgroupInvocationID;
    // Neighbours share a head and an item: they read the same keys. Subgroups past
    // the end compute the last rows once more: flow stays uniform.
    const uint item_blocks = (p.item_rows + LANES - 1u) / LANES;
    const uint items = p.row_count / p.item_rows;
    const uint block_count = item_blocks * items * p.heads;
    const uint wanted = gl_GlobalInvocationID.x / LANES;
    const uint block = min(wanted, block_count - 1u);
    const uint item = block / item_blocks % items;
    const uint head = block / item_blocks / items;
    const uint kv_element = head / (p.heads / p.kv_heads) * HEAD_DIM;
    const uint first_row = block % item_blocks * LANES;
    const uint last_row = min(first_row + LANES, p.item_rows) - 1u;
    const uint row = min(first_row + lane, last_row);
    const uint t = item * p.item_rows + row;
    const uint end = CAUSAL ? last_row + 1u : p.item_kv_rows;  // of the block
    const uint own_end = CAUSAL ? row + 1u : end;

    vec4 q[VECS];
    vec4 sum[VECS];
    [[unroll]] for (uint i = 0u; i < VECS; ++i) {
        q[i] = load_query(t, head, i * 4u);
        sum[i] = vec4(0.0);
    }
    float highest = LOWEST;
    float weight_sum = 0.0;
    for (uint first = 0u; first < end; first += LANES) {
        // Past the end the last key once more, of weight 0.
        const uint kv_row = (item * p.item_kv_rows + min(first + lane, end - 1u)) * p.kv_stride;
        float weight[LANES];  // of each key: first its score
        [[unroll]] for (uint j = 0u; j < LANES; ++j) {
            weight[j] = 0.0;
        }
        [[unroll]] for (uint i = 0u; i < VECS; ++i) {
            const vec4 loaded = load_elements(p.k_offset + kv_row, kv_element + i * 4u, ALIGNED);
            const vec4 own = mask_columns(loaded, i * 4u, HEAD_DIM);
            [[unroll]] for (uint j = 0u; j < LANES; ++j) {
                weight[j] += dot(q[i], subgroupShuffle(own, j));
            }
        }
        float higher = highest;
        [[unroll]] for (uint j = 0u; j < LANES; ++j) {
            weight[j] = first + j < own_end ? weight[j] : LOWEST;
            higher = max(higher, weight[j]);
        }
        const float keep = exp(highest - higher);
        highest = higher;
        weight_sum *= keep;
        [[unroll]] for (uint j = 0u; j < LANES; ++j) {
            weight[j] = first + j < own_end ? exp(weight[j] - higher) : 0.0;
            weight_sum += weight[j];
        }
        // Where some lanes must not see all eight, a value that is no number is not
        // multiplied by 0. The same for the whole subgroup.
        const bool diagonal = CAUSAL && first + LANES > first_row + 1u;
        if (diagonal) {
            [[unroll]] for (uint i = 0u; i < VECS; ++i) {
                const vec4 own = load_elements(p.v_offset + kv_row, kv_element + i * 4u, ALIGNED);
                vec4 added = sum[i] * keep;
                [[unroll]] for (uint j = 0u; j < LANES; ++j) {
                    const vec4 value = subgroupShuffle(own, j);
                    added += first + j < own_end ? value * weight[j] : vec4(0.0);
                }
                sum[i] = added;
            }
        } else {
            [[unroll]] for (uint i = 0u; i < VECS; ++i) {
                const vec4 own = load_elements(p.v_offset + kv_row, kv_element + i * 4u, ALIGNED);
                vec4 added = sum[i] * keep;
                [[unroll]] for (uint j = 0u; j < LANES; ++j) {
                    added += subgroupShuffle(own, j) * weight[j];
                }
                sum[i] = added;
            }
        }
    }
    if (wanted < block_count && first_row + lane <= last_row) {
        [[unroll]] for (uint i = 0u; i < VECS; ++i) {
            store(t, head, i * 4u, sum[i] / weight_sum);
        }
        store_padding(t, head);
    }
}
#else
void main() {
    const uint pair_count = p.row_count * p.heads;
    const uint pair = gl_GlobalInvocationID.x;
    if (pair >= pair_count) {
        return;
    }
    // Neighbours share a head and an item: they read the same keys.
    const uint t = pair % p.row_count;
    const uint head = pair / p.row_count;
    const uint kv_element = head / (p.heads / p.kv_heads) * HEAD_DIM;
    const uint item = t / p.item_rows;
    const uint end = CAUSAL ? t % p.item_rows + 1u : p.item_kv_rows;

    vec4 q[VECS];
    vec4 sum[VECS];
    [[unroll]] for (uint i = 0u; i < VECS; ++i) {
        q[i] = load_query(t, head, i * 4u);
        sum[i] = vec4(0.0);
    }
    float highest = LOWEST;
    float weight_sum = 0.0;
    for (uint j = 0u; j < end; ++j) {
        const uint row = (item * p.item_kv_rows + j) * p.kv_stride;
        float score = 0.0;
        [[unroll]] for (uint i = 0u; i < VECS; ++i) {
            const vec4 k = load_elements(p.k_offset + row, kv_element + i * 4u, ALIGNED);
            score += dot(q[i], mask_columns(k, i * 4u, HEAD_DIM));
        }
        const float higher = max(highest, score);
        const float keep = exp(highest - higher);
        const float weight = exp(score - higher);
        highest = higher;
        weight_sum = weight_sum * keep + weight;
        [[unroll]] for (uint i = 0u; i < VECS; ++i) {
            const vec4 v = load_elements(p.v_offset + row, kv_element + i * 4u, ALIGNED);
            sum[i] = sum[i] * keep + v * weight;
        }
    }
    [[unroll]] for (uint i = 0u; i < VECS; ++i) {
        store(t, head, i * 4u, sum[i] / weight_sum);
    }
    store_padding(t, head);
}
#endif
