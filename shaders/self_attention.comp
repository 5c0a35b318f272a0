// SPDX-License-Identifier: MIT
// y = softmax(scale q k^T) v over the rows of an item, or up to the row's own,
// with the heads in groups that share a KV head. Online softmax (Milakov and
// Gimelshein 2018, arXiv 1805.02867), one lane a (row, head) pair.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(constant_id = 1) const uint HEAD_DIM = 64;

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
    uint causal;
    float scale;
} p;

// A second name for the values: heads that do not start at a unit are stored
// float by float. A kernel stores through one of the two only.
layout(set = 0, binding = 1, std430) writeonly buffer ValueFloats {
    float value_floats[];
};

const uint VECS = (HEAD_DIM + 3u) / 4u;
const bool ALIGNED = HEAD_DIM % 4u == 0u;
const float LOWEST = -3.0e38;

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
    const uint end = p.causal != 0u ? t % p.item_rows + 1u : p.item_kv_rows;

    vec4 q[VECS];
    vec4 sum[VECS];
    [[unroll]] for (uint i = 0u; i < VECS; ++i) {
        const vec4 loaded =
            load_elements(p.q_offset + t * p.stride, head * HEAD_DIM + i * 4u, ALIGNED);
        q[i] = mask_columns(loaded * p.scale, i * 4u, HEAD_DIM);
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
    const uint y_row = p.y_offset + t * p.stride;
    [[unroll]] for (uint i = 0u; i < VECS; ++i) {
        const vec4 y = sum[i] / weight_sum;
        const uint start = head * HEAD_DIM + i * 4u;
        if (ALIGNED) {
            STORE_Y(y_row + start / 4u, y);
        } else {
            for (uint k = 0u; k < 4u && i * 4u + k < HEAD_DIM; ++k) {
                value_floats[y_row * 4u + start + k] = y[k];
            }
        }
    }
    if (head + 1u == p.heads) {
        for (uint i = p.heads * HEAD_DIM; i < p.stride * 4u; ++i) {
            value_floats[y_row * 4u + i] = 0.0;
        }
    }
}
