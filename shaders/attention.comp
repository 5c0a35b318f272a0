// SPDX-License-Identifier: MIT
// y = softmax(scale q k^T) v over the positions 0 .. the row's own, with the
// heads in groups that share a KV head. Online softmax (Milakov and
// Gimelshein 2018, arXiv 1805.02867): SPLIT lanes share a (row, head) pair,
// each with its own maximum, sum and output over every SPLIT-th position; the
// parts are merged once at the end, so the loop touches no shared memory.
//
// SLICES: the positions, whole pages, are cut into as many slices, each of
// workgroups of its own (gl_WorkGroupID.y). What a slice has goes to the scratch
// space: the output of its softmax, not divided by its sum, maximum and sum;
// attention_merge.comp goes on (Dao et al. 2023, Flash-Decoding).
//
// M4_NEEDS_SUBGROUP8: the eight lanes of a subgroup take eight positions at a
// time, each the score of one; then each takes a unit of the head's width for
// the values of all eight, the weights passed around by shuffles; of a head of
// fewer units than lanes, of every second position, every fourth or its own. A
// lane keeps its units of the output, and the maximum is renewed once for two
// such groups, neither of which waits for the other. SPLIT is 8.
#version 450
#extension GL_GOOGLE_include_directive : require
#if M4_NEEDS_SUBGROUP8
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#include "values.glsl"

layout(constant_id = 1) const uint SPLIT = 8;
layout(constant_id = 2) const uint HEAD_DIM = 64;
layout(constant_id = 3) const uint PAGE_POSITIONS = 64;
layout(constant_id = 4) const bool SHIFT_HALVES = false;  // F16: as kv.glsl has it

layout(constant_id = 5) const uint SLICES = 1;

#include "kv.glsl"

layout(push_constant) uniform Push {
    uint q_offset;
    uint y_offset;
    uint stride;  // units of a row, of q and y
    uint row_count;
    uint heads;
    uint kv_heads;
    uint positions_word;
    uint tables_word;
    uint layer_units;
    uint pool_positions;
    float scale;
    uint scratch_offset;  // SLICES > 1
} p;

#include "heads.glsl"

const uint ELEMENT_UNITS = (HEAD_DIM + UNIT_ELEMENTS - 1u) / UNIT_ELEMENTS;
const uint HEAD_UNITS = ELEMENT_UNITS + KV_SCALE_UNITS(ELEMENT_UNITS);
const uint VECS = ELEMENT_UNITS * UNIT_VECS;
const uint ROUND = 8;  // vec4s merged at once
const float LOWEST = -3.0e38;
const uint SLICE_UNITS = 1u + (HEAD_DIM + 3u) / 4u;

#if !M4_NEEDS_SUBGROUP8
shared vec2 parts[gl_WorkGroupSize.x];  // maximum, sum
shared vec4 outputs[gl_WorkGroupSize.x * ROUND];
#endif

/// First unit of this slice of a (row, head) pair in the scratch space: maximum
/// and sum, then the output.
uint slice_unit(uint t, uint head) {
    const uint pair = (gl_WorkGroupID.y * p.row_count + t) * p.heads + head;
    return p.scratch_offset + pair * SLICE_UNITS;
}

/// Four elements of a head, as summed up: to the slice's place, or divided to y.
void give(uint t, uint head, uint element, vec4 sum, float weight_sum) {
    if (SLICES > 1u) {
        STORE_Y(slice_unit(t, head) + 1u + element / 4u, sum);
    } else {
        store(t, head, element, sum / weight_sum);
    }
}

/// By one lane of a pair, besides.
void give_rest(uint t, uint head, float highest, float weight_sum) {
    if (SLICES > 1u) {
        STORE_Y(slice_unit(t, head), vec4(highest, weight_sum, 0.0, 0.0));
    } else {
        store_padding(t, head);
    }
}

#if M4_DTYPE_F16
// Shifted halves are 2^112 too small. The query makes up for 2^96 and the score
// for the rest, so that neither overflows; a weight, at most 1, for all.
float query_factor() { return SHIFT_HALVES ? 79228162514264337593543950336.0 : 1.0; }
float score_factor() { return SHIFT_HALVES ? 65536.0 : 1.0; }
float weight_factor() { return query_factor() * score_factor(); }
vec4 element_vec(uvec4 unit, uint index) {
    return SHIFT_HALVES ? shifted_halves(unit, index) : unit_vec(unit, index);
}
#else
float query_factor() { return 1.0; }
float score_factor() { return 1.0; }
float weight_factor() { return 1.0; }
#if M4_DTYPE_Q8
vec4 element_vec(uvec4 unit, uint index) { return fixed_point(unit, index); }
#else
vec4 element_vec(uvec4 unit, uint index) { return unit_vec(unit, index); }
#endif
#endif

#if M4_DTYPE_Q8
const uint SCALE_UNITS = KV_SCALE_UNITS(ELEMENT_UNITS);

/// The scales of the head at `row`.
void load_scales(uint row, out vec4 scales[SCALE_UNITS]) {
    [[unroll]] for (uint s = 0u; s < SCALE_UNITS; ++s) {
        scales[s] = uintBitsToFloat(LOAD_KV(row + ELEMENT_UNITS + s));
    }
}

/// That of a unit.
float scale_of(vec4 scales[SCALE_UNITS], uint unit) {
    return scales[unit / KV_SCALED_UNITS][unit % KV_SCALED_UNITS / KV_BLOCK_UNITS];
}
#endif

/// q times the key at `key`.
float score_of(vec4 q[VECS], uint key) {
#if M4_DTYPE_Q8
    vec4 scales[SCALE_UNITS];
    load_scales(key, scales);
    float score = 0.0;
#endif
    vec4 products = vec4(0.0);
    [[unroll]] for (uint u = 0u; u < ELEMENT_UNITS; ++u) {
        const uvec4 k = LOAD_KV(key + u);
        [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
            products += element_vec(k, v) * q[u * UNIT_VECS + v];
        }
#if M4_DTYPE_Q8
        if (u % KV_BLOCK_UNITS == KV_BLOCK_UNITS - 1u || u == ELEMENT_UNITS - 1u) {
            score += dot(products, vec4(1.0)) * scale_of(scales, u);
            products = vec4(0.0);
        }
#endif
    }
#if M4_DTYPE_Q8
    return score;
#else
    return dot(products, vec4(score_factor()));
#endif
}

#if M4_NEEDS_SUBGROUP8
const uint LANES = 8;
const uint LANE_UNITS = (ELEMENT_UNITS + LANES - 1u) / LANES;  // of a head, a lane
// Lanes that share a position's values; the others take further positions.
const uint ROW_LANES = ELEMENT_UNITS > 4u ? 8u : ELEMENT_UNITS > 2u ? 4u : ELEMENT_UNITS;
const uint ROWS_AT_ONCE = LANES / ROW_LANES;
const uint GROUPS = PAGE_POSITIONS < 2u * LANES ? 1u : 2u;  // of eight positions at once

#if M4_DTYPE_Q8
/// What lane `from` has for the block of this lane's unit.
float passed(vec4 factors, uint from) {
    const uint block = gl_SubgroupInvocationID % ROW_LANES / KV_BLOCK_UNITS;
    float own = subgroupShuffle(factors.x, from);
    [[unroll]] for (uint k = 1u; k * KV_BLOCK_UNITS < ROW_LANES; ++k) {
        const float other = subgroupShuffle(factors[k], from);
        own = block == k ? other : own;
    }
    return own;
}
#endif

/// The whole of one (row, head) pair, by one subgroup.
void attend(vec4 q[VECS], uint table, uint keys, uint values, uint begin, uint end, uint t,
            uint head, bool stored) {
    const uint lane = gl_SubgroupInvocationID;
    const uint first_unit = lane % ROW_LANES;
    vec4 sum[LANE_UNITS * UNIT_VECS];
    [[unroll]] for (uint i = 0u; i < LANE_UNITS * UNIT_VECS; ++i) {
        sum[i] = vec4(0.0);
    }
    float highest = LOWEST;   // alike in all lanes
    float weight_sum = 0.0;   // of this lane's positions
    // Positions from a multiple of their number on: all in one page.
    for (uint first = begin; first < end; first += LANES * GROUPS) {
        const uint start = kv_page(table, first, HEAD_UNITS) + first % PAGE_POSITIONS * HEAD_UNITS;
        const uint last = end - 1u - first;
        float weights[GROUPS];
        float higher = highest;
        [[unroll]] for (uint g = 0u; g < GROUPS; ++g) {
            // Lanes past the end compute the last score once more and drop it.
            const uint at = lane + g * LANES;
            const float computed = score_of(q, keys + start + min(at, last) * HEAD_UNITS);
            weights[g] = at <= last ? computed : LOWEST;
            higher = max(higher, weights[g]);
        }
        higher = max(higher, subgroupShuffleXor(higher, 1u));
        higher = max(higher, subgroupShuffleXor(higher, 2u));
        higher = max(higher, subgroupShuffleXor(higher, 4u));
        const float keep = exp(highest - higher);
        highest = higher;
        weight_sum *= keep;
        [[unroll]] for (uint i = 0u; i < LANE_UNITS * UNIT_VECS; ++i) {
            sum[i] *= keep;
        }
        [[unroll]] for (uint g = 0u; g < GROUPS; ++g) {
            const uint at = lane + g * LANES;
            const float weight = at <= last ? exp(weights[g] - higher) : 0.0;
            weight_sum += weight;
#if M4_DTYPE_Q8
            vec4 scales[SCALE_UNITS];
            load_scales(values + start + min(at, last) * HEAD_UNITS, scales);
#else
            const float factor = weight * weight_factor();
#endif
            [[unroll]] for (uint j = 0u; j < ROW_LANES; ++j) {
                const uint from = j * ROWS_AT_ONCE + lane / ROW_LANES;
                const uint row = values + start + min(g * LANES + from, last) * HEAD_UNITS;
                [[unroll]] for (uint u = 0u; u < LANE_UNITS; ++u) {
                    const uint own = min(first_unit + u * LANES, ELEMENT_UNITS - 1u);
                    const uvec4 unit = LOAD_KV(row + own);
#if M4_DTYPE_Q8
                    const float of_row = passed(scales[u] * weight, from);
#else
                    const float of_row = subgroupShuffle(factor, from);
#endif
                    [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
                        sum[u * UNIT_VECS + v] += element_vec(unit, v) * of_row;
                    }
                }
            }
        }
    }
    [[unroll]] for (uint step = ROW_LANES; step < LANES; step *= 2u) {
        [[unroll]] for (uint i = 0u; i < LANE_UNITS * UNIT_VECS; ++i) {
            sum[i] += subgroupShuffleXor(sum[i], step);
        }
    }
    weight_sum += subgroupShuffleXor(weight_sum, 1u);
    weight_sum += subgroupShuffleXor(weight_sum, 2u);
    weight_sum += subgroupShuffleXor(weight_sum, 4u);
    if (!stored) {
        return;
    }
    [[unroll]] for (uint u = 0u; u < LANE_UNITS; ++u) {
        [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
            const uint element = (lane + u * LANES) * UNIT_ELEMENTS + v * 4u;
            if (lane < ROW_LANES && element < HEAD_DIM) {
                give(t, head, element, sum[u * UNIT_VECS + v], weight_sum);
            }
        }
    }
    if (lane == 0u) {
        give_rest(t, head, highest, weight_sum);
    }
}
#else
/// SPLIT lanes of the workgroup, of which this is `part`, for one pair.
void attend(vec4 q[VECS], uint table, uint keys, uint values, uint begin, uint end, uint t,
            uint head, bool stored_here) {
    const uint lane = gl_LocalInvocationID.x;
    const uint part = lane % SPLIT;
    vec4 sum[VECS];
    [[unroll]] for (uint i = 0u; i < VECS; ++i) {
        sum[i] = vec4(0.0);
    }
    float highest = LOWEST;
    float weight_sum = 0.0;
    // Page by page, the lanes taking turns in each.
    for (uint first = begin; first < end; first += PAGE_POSITIONS) {
        const uint page = kv_page(table, first, HEAD_UNITS);
        const uint page_end = min(end - first, PAGE_POSITIONS);
        for (uint at = part; at < page_end; at += SPLIT) {
            const float score = score_of(q, keys + page + at * HEAD_UNITS);
            const float higher = max(highest, score);
            const float keep = exp(highest - higher);
            const float weight = exp(score - higher);
            highest = higher;
            weight_sum = weight_sum * keep + weight;
            const uint row = values + page + at * HEAD_UNITS;
#if M4_DTYPE_Q8
            vec4 scales[SCALE_UNITS];
            load_scales(row, scales);
#endif
            [[unroll]] for (uint u = 0u; u < ELEMENT_UNITS; ++u) {
                const uvec4 stored = LOAD_KV(row + u);
#if M4_DTYPE_Q8
                const float factor = weight * scale_of(scales, u);
#else
                const float factor = weight * weight_factor();
#endif
                [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
                    const uint i = u * UNIT_VECS + v;
                    sum[i] = sum[i] * keep + element_vec(stored, v) * factor;
                }
            }
        }
    }

    if (SPLIT == 1u) {
        if (stored_here) {
            [[unroll]] for (uint i = 0u; i < VECS; ++i) {
                if (i * 4u < HEAD_DIM) {
                    give(t, head, i * 4u, sum[i], weight_sum);
                }
            }
            give_rest(t, head, highest, weight_sum);
        }
        return;
    }

    const uint first = lane - part;
    parts[lane] = vec2(highest, weight_sum);
    barrier();
    float most = LOWEST;
    for (uint k = 0u; k < SPLIT; ++k) {
        most = max(most, parts[first + k].x);
    }
    float total = 0.0;
    for (uint k = 0u; k < SPLIT; ++k) {
        total += parts[first + k].y * exp(parts[first + k].x - most);
    }
    const float factor = exp(highest - most);
    // Each round, lane j of the pair adds up the j-th of ROUND vec4s.
    [[unroll]] for (uint i = 0u; i < VECS; i += ROUND) {
        barrier();
        [[unroll]] for (uint j = 0u; j < ROUND && i + j < VECS; ++j) {
            outputs[lane * ROUND + j] = sum[i + j] * factor;
        }
        barrier();
        for (uint j = part; j < ROUND; j += SPLIT) {
            vec4 merged = vec4(0.0);
            for (uint k = 0u; k < SPLIT; ++k) {
                merged += outputs[(first + k) * ROUND + j];
            }
            if (stored_here && (i + j) * 4u < HEAD_DIM) {
                give(t, head, (i + j) * 4u, merged, total);
            }
        }
    }
    if (stored_here && part == 0u) {
        give_rest(t, head, most, total);
    }
}
#endif

void main() {
    const uint lane = gl_LocalInvocationID.x;
    const uint pair_count = p.row_count * p.heads;
    const uint wanted = gl_WorkGroupID.x * (gl_WorkGroupSize.x / SPLIT) + lane / SPLIT;
    const bool stored_here = wanted < pair_count;
    const uint pair = min(wanted, pair_count - 1u);
    const uint t = pair % p.row_count;
    const uint head = pair / p.row_count;

    const uint position = LOAD_STEP(p.positions_word + t);
    const uint table = LOAD_STEP(p.tables_word + t);
    const uint keys =
        kv_head(p.layer_units, HEAD_UNITS, head / (p.heads / p.kv_heads), p.pool_positions);
    const uint values = keys + p.pool_positions * HEAD_UNITS;

    vec4 q[VECS];
    const uint q_row = p.q_offset + t * p.stride;
    [[unroll]] for (uint i = 0u; i < VECS; ++i) {
        const vec4 loaded = load_elements(q_row, head * HEAD_DIM + i * 4u, ALIGNED);
        q[i] = mask_columns(loaded * (p.scale * query_factor()), i * 4u, HEAD_DIM);
    }
    uint begin = 0u;
    uint end = position + 1u;
    if (SLICES > 1u) {
        const uint pages = (position / PAGE_POSITIONS + SLICES) / SLICES;  // of a slice
        begin = gl_WorkGroupID.y * pages * PAGE_POSITIONS;
        end = min(end, begin + pages * PAGE_POSITIONS);
    }
    attend(q, table, keys, values, begin, end, t, head, stored_here);
}
