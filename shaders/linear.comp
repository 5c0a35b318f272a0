// SPDX-License-Identifier: MIT
// y = x weight^T + bias; weight is ROWS16. A lane computes 4 rows of the
// weight (a quad, one unit of y) for M4_TILE rows of the step. K_SPLIT lanes
// share a quad, each a part of K: 1 where lanes are dear (a CPU), more where a
// small matrix would leave a GPU idle.
//
// By specialisation also what a program may group with it (docs/programs.md):
// NORM takes the norm of x in the same pass, for the norm's factor is one
// number a row and may come last; PARTS matrices share x and the dispatch, one
// behind the other in the quads; EPILOGUE goes on with what a lane holds;
// KEPT parts are keys and values, which go to their pages and nowhere else;
// MOST_RANK asks for what the rows' adapters add to each part's product.
//
// M4_NEEDS_SUBGROUP8: the eight lanes of a subgroup want the same x, so each
// loads an eighth of the block and takes the others' by shuffles. On a CPU
// driver a load costs as much as some forty arithmetic operations, a shuffle
// from a known lane as much as one. Needs K_SPLIT = 1.
#version 450
#extension GL_GOOGLE_include_directive : require
#if M4_NEEDS_SUBGROUP8
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif
#define M4_KV_WRITE 1
#include "values.glsl"

const uint PLAIN = 0;
const uint ADD = 1;     // a value to y
const uint GATE = 2;    // silu(x weight[0]^T) * x weight[1]^T, the two of a shape
const uint ROTATE = 3;  // RoPE of the parts that turn

layout(constant_id = 1) const uint K_SPLIT = 1;
layout(constant_id = 2) const bool NORM = false;
layout(constant_id = 3) const uint PARTS = 1;
layout(constant_id = 4) const uint EPILOGUE = 0;
layout(constant_id = 5) const uint KEPT = 0;  // quads of y in a unit of the KV pool: F32 1, F16 2
layout(constant_id = 6) const uint PAGE_POSITIONS = 64;
layout(constant_id = 7) const uint MOST_RANK = 0;  // of the rows' adapters; 0: none has one
layout(constant_id = 8) const uint LOW_RANK_UNIT = 0;
layout(constant_id = 9) const uint ADAPTER_FORMS = 0;

struct Part {
    uint weight_offset;  // units from the binding's begin
    uint quads;          // that it computes: of several parts, all of a row of y
    uint y_offset;
};

layout(push_constant) uniform Push {
    uint x_offset;
    uint x_stride;
    uint t_first;  // rows of the step: [t_first, t_end)
    uint t_end;
    uint group_units;  // units of 16 rows of a weight
    uint blocks;       // whole blocks of 32 columns
    uint tail_units;   // of a row, behind its blocks; quantised: 0
    uint x_columns;
    Part parts[3];
    uint y_stride;      // of the only part: units of a row of y, of which it
    uint first_quad;    // computes these quads on
    uint columns;       // of y where it has a bias, else 0
    uint added_offset;  // ADD: the other value
    float eps;          // NORM
    uint positions_word;  // ROTATE, as rope has them
    uint head_dim;
    uint rotated;
    uint fine_rows;
    uint turns;  // bit i: part i turns; 8 + i: it is keys; 16 + i: values
    uint tables_word;  // KEPT, as kv_write has them
    uint layer_units;
    uint pool_positions;
    uvec2 weight_address;  // of the weights' binding, where they are read so
} p;

#include "weights.glsl"
#include "kv_pool.glsl"
#include "low_rank.glsl"

#if M4_NEEDS_SUBGROUP8
/// The sum of what the eight lanes hold.
float over_lanes(float mine) {
    mine += subgroupShuffleXor(mine, 1u);
    mine += subgroupShuffleXor(mine, 2u);
    return mine + subgroupShuffleXor(mine, 4u);
}
#endif

shared vec4 partial[gl_WorkGroupSize.x];

#if M4_NEEDS_SUBGROUP8
#define LANE (gl_SubgroupInvocationID % BLOCK_VECS)
#endif

// Q4 by eight lanes: element v of a half-word is taken as it lies there, 16^v times too
// large, and the x that it meets, which lanes v and v + 4 load, is made as much smaller.
// Put below the exponent of 2^23 it is a float already; what is too much, 2^23 and
// 8 of its own unit, goes by one subtraction.
#if M4_NEEDS_SUBGROUP8 && M4_DTYPE_Q4
#define WEIGHT_VEC(unit, v) nibble_vec(unit, v)
#define X_FACTOR uintBitsToFloat((127u - 4u * (LANE & 3u)) << 23)
const uint TWO_TO_23 = 0x4b000000u;
vec4 nibble_vec(uvec4 unit, uint v) {
    const uint shift = 4u * (v & 3u);
    const uvec4 half_words = v < 4u ? unit : unit >> 16;
    return uintBitsToFloat((half_words & (15u << shift)) | TWO_TO_23) -
           uintBitsToFloat(TWO_TO_23 + (8u << shift));
}
#else
#define WEIGHT_VEC(unit, v) unit_vec(unit, v)
#define X_FACTOR 1.0
#endif

/// Four columns of the norm's weight, from `c` on, as far as there are any.
vec4 norm_weight(uint c) {
    const uint last = (p.x_columns - 1u) / 4u;
    return mask_columns(uintBitsToFloat(LOAD_SECOND(min(c, last))), c * 4u, p.x_columns);
}

#if M4_NEEDS_SUBGROUP8
/// Block b of K, whose weights are at `block`. They are asked for first, as they
/// come from farthest. Then one row of the step after another: its four sums stay in
/// registers, and the decoded weights are read where they lie on the stack.
void multiply_block(uint block, uint r, uint b, uint x_row[M4_TILE], out vec4 products[M4_TILE],
                    inout float squares[M4_TILE]) {
    uvec4 w[4u * BLOCK_ROW_UNITS];
    [[unroll]] for (uint i = 0u; i < 4u * BLOCK_ROW_UNITS; ++i) {
        w[i] = LOAD_W(block + i / 4u * 16u + r + i % 4u);
    }
    vec4 share[M4_TILE];
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        share[i] = LOAD_X(x_row[i] + b * BLOCK_VECS + LANE);
    }
    vec4 factor = vec4(X_FACTOR);
    if (NORM) {
        factor *= uintBitsToFloat(LOAD_SECOND(b * BLOCK_VECS + LANE));
    }
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        if (NORM) {
            squares[i] += dot(share[i], share[i]);
        }
        share[i] *= factor;
    }
    // Zero, which no compiler knows: of a shuffle from lane 5 LLVM makes two, within
    // and across halves, where one from any lane would do.
    const uint first = p.x_columns >> 31;
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        products[i] = vec4(0.0);
        [[unroll]] for (uint c = 0u; c < BLOCK_VECS; ++c) {
            const uint at = c / UNIT_VECS * 4u;
            const uint v = c % UNIT_VECS;
            const vec4 x = subgroupShuffle(share[i], first + c);
            products[i] +=
                vec4(dot(WEIGHT_VEC(w[at], v), x), dot(WEIGHT_VEC(w[at + 1u], v), x),
                     dot(WEIGHT_VEC(w[at + 2u], v), x), dot(WEIGHT_VEC(w[at + 3u], v), x));
        }
    }
}
#else
/// Block b of K, whose weights are at `block`.
void multiply_block(uint block, uint r, uint b, uint x_row[M4_TILE], out vec4 products[M4_TILE],
                    inout float squares[M4_TILE]) {
    float x_sum[M4_TILE];  // Q4: 8 of each weight is still to be subtracted
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        products[i] = vec4(0.0);
        x_sum[i] = 0.0;
    }
    [[unroll]] for (uint u = 0u; u < BLOCK_ROW_UNITS; ++u) {
        const uint at = block + u * 16u + r;
        const uvec4 w0 = LOAD_W(at);
        const uvec4 w1 = LOAD_W(at + 1u);
        const uvec4 w2 = LOAD_W(at + 2u);
        const uvec4 w3 = LOAD_W(at + 3u);
        [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
            const vec4 w_a = unit_vec(w0, v);
            const vec4 w_b = unit_vec(w1, v);
            const vec4 w_c = unit_vec(w2, v);
            const vec4 w_d = unit_vec(w3, v);
            const uint c = b * BLOCK_VECS + u * UNIT_VECS + v;
            const vec4 weight = NORM ? uintBitsToFloat(LOAD_SECOND(c)) : vec4(1.0);
            [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
                vec4 x = LOAD_X(x_row[i] + c);
                if (NORM) {
                    squares[i] += dot(x, x);
                    x *= weight;
                }
                products[i] += vec4(dot(w_a, x), dot(w_b, x), dot(w_c, x), dot(w_d, x));
#if M4_DTYPE_Q4
                x_sum[i] += dot(x, vec4(1.0));
#endif
            }
        }
    }
#if M4_DTYPE_Q4
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        products[i] -= 8.0 * x_sum[i];
    }
#endif
}
#endif

/// What this lane has of K of quad rows r to r + 3 of the group at `group`;
/// `squares` likewise of the sums of x's squares.
void multiply(uint group, uint r, uint part, uint x_row[M4_TILE], out vec4 sum[M4_TILE],
              out float squares[M4_TILE]) {
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        sum[i] = vec4(0.0);
        squares[i] = 0.0;
    }
    const uint blocks = p.blocks;
    for (uint b = part; b < blocks; b += K_SPLIT) {
        const uint block = group + b * BLOCK_UNITS;
        vec4 products[M4_TILE];
        multiply_block(block, r, b, x_row, products, squares);
#if M4_QUANTIZED
        const vec4 scales = block_scales(block, r);
#else
        const vec4 scales = vec4(1.0);
#endif
        [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
            sum[i] += scales * products[i];
        }
    }
#if !M4_QUANTIZED
    const uint tail = group + p.blocks * BLOCK_UNITS + r;
    for (uint u = part; u < p.tail_units; u += K_SPLIT) {
        const uvec4 w0 = LOAD_W(tail + u * 16u);
        const uvec4 w1 = LOAD_W(tail + u * 16u + 1u);
        const uvec4 w2 = LOAD_W(tail + u * 16u + 2u);
        const uvec4 w3 = LOAD_W(tail + u * 16u + 3u);
        [[unroll]] for (uint v = 0u; v < UNIT_VECS; ++v) {
            const uint c = p.blocks * BLOCK_VECS + u * UNIT_VECS + v;
            const vec4 weight = NORM ? norm_weight(c) : vec4(1.0);
            [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
                vec4 x = LOAD_X(x_row[i] + c);
                if (NORM) {
#if M4_NEEDS_SUBGROUP8
                    // Each lane sees all of it: one of them counts it.
                    squares[i] += c % BLOCK_VECS == LANE ? dot(x, x) : 0.0;
#else
                    squares[i] += dot(x, x);
#endif
                    x *= weight;
                }
                sum[i] += vec4(dot(unit_vec(w0, v), x), dot(unit_vec(w1, v), x),
                               dot(unit_vec(w2, v), x), dot(unit_vec(w3, v), x));
            }
        }
    }
#endif
}

/// The whole of what K_SPLIT lanes hold parts of.
vec4 joined(vec4 mine, uint slot, uint quads) {
    if (K_SPLIT == 1u) {
        return mine;
    }
    barrier();
    partial[gl_LocalInvocationID.x] = mine;
    barrier();
    vec4 whole = vec4(0.0);
    for (uint k = 0u; k < K_SPLIT; ++k) {
        whole += partial[k * quads + slot];
    }
    return whole;
}

float norm_factor(float squares, uint slot, uint quads) {
#if M4_NEEDS_SUBGROUP8
    squares = over_lanes(squares);
#else
    squares = joined(vec4(squares), slot, quads).x;
#endif
    return inversesqrt(squares / float(p.x_columns) + p.eps);
}

/// (cos, sin) of two neighbouring pairs, from dimension i of a head on.
vec4 angles(uint row, uint i) {
    return uintBitsToFloat(LOAD_THIRD((row * p.rotated + i) / 4u));
}

/// rope, of the two pairs that a quad holds; n: the quad's first row.
vec4 rotate(vec4 y, uint n, uint position) {
    const uint i = n % p.head_dim;
    const uint at = min(i, p.rotated - 4u);
    const vec4 fine = angles(position % p.fine_rows, at);
    const vec4 coarse = angles(p.fine_rows + position / p.fine_rows, at);
    const vec2 cosine = fine.xz * coarse.xz - fine.yw * coarse.yw;
    const vec2 sine = fine.yw * coarse.xz + fine.xz * coarse.yw;
    const vec2 even = y.xz * cosine - y.yw * sine;
    const vec2 odd = y.xz * sine + y.yw * cosine;
    return i < p.rotated ? vec4(even.x, odd.x, even.y, odd.y) : y;
}

/// What the lane of a pair's other quad has.
vec4 neighbour(vec4 mine) {
#if M4_NEEDS_SUBGROUP8
    return subgroupShuffleXor(mine, 1u);
#else
    barrier();
    partial[gl_LocalInvocationID.x] = mine;
    barrier();
    return partial[gl_LocalInvocationID.x ^ 1u];
#endif
}

const uint KEPT_COLUMNS = KEPT == 2u ? 8u : 4u;  // of a unit

/// Columns n to n + 3 of row t's keys or values go to its page, where `stored`.
void keep(vec4 y, uint n, uint t, uint position, bool is_value, bool stored) {
    uvec4 unit = floatBitsToUint(y);
    if (KEPT == 2u) {
        const vec4 next = neighbour(y);
        unit = uvec4(packHalf2x16(y.xy), packHalf2x16(y.zw), packHalf2x16(next.xy),
                     packHalf2x16(next.zw));
    }
    const uint head_units = p.head_dim / KEPT_COLUMNS;
    const uint keys =
        kv_head(p.layer_units, head_units, n / p.head_dim, p.pool_positions) +
        kv_page(LOAD_STEP(p.tables_word + t), position, head_units) +
        position % PAGE_POSITIONS * head_units + n % p.head_dim / KEPT_COLUMNS;
    if (stored && n % KEPT_COLUMNS == 0u) {
        STORE_KV(keys + (is_value ? p.pool_positions * head_units : 0u), unit);
    }
}

void main() {
    const uint group_quads = gl_WorkGroupSize.x / K_SPLIT;
    const uint slot = gl_LocalInvocationID.x % group_quads;
    const uint part = gl_LocalInvocationID.x / group_quads;
    const uint wanted = gl_WorkGroupID.x * group_quads + slot;
    // Lanes past the end compute the last quad once more: flow stays uniform.
    uint quad_count = p.parts[0].quads;
    if (PARTS > 1u && EPILOGUE != GATE) {
        quad_count += p.parts[1].quads;
    }
    if (PARTS > 2u) {
        quad_count += p.parts[2].quads;
    }
    uint quad = min(wanted, quad_count - 1u);
    Part matrix = p.parts[0];
    uint index = 0u;  // of the part
    uint marks = p.turns;
    if (PARTS > 1u && EPILOGUE != GATE && quad >= matrix.quads) {
        quad -= matrix.quads;
        matrix = p.parts[1];
        index = 1u;
        marks = p.turns >> 1;
        if (PARTS > 2u && quad >= matrix.quads) {
            quad -= matrix.quads;
            matrix = p.parts[2];
            index = 2u;
            marks = p.turns >> 2;
        }
    }
    const uint n = quad * 4u;
    const uint group = n / 16u * p.group_units;
    const uint t0 = p.t_first + gl_WorkGroupID.y * M4_TILE;

    uint x_row[M4_TILE];
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        x_row[i] = p.x_offset + min(t0 + i, p.t_end - 1u) * p.x_stride;
    }
    vec4 sum[M4_TILE];
    vec4 gate[M4_TILE];
    float squares[M4_TILE];
    // One copy of the code for both matrices: it is most of what a driver compiles.
    [[dont_unroll]] for (uint m = 0u; m < (EPILOGUE == GATE ? 2u : 1u); ++m) {
        const uint offset = m == 0u ? matrix.weight_offset : p.parts[1].weight_offset;
        gate = sum;
        multiply(offset + group, n % 16u, part, x_row, sum, squares);
    }

    const uint y_quad = PARTS == 1u ? p.first_quad + quad : quad;
    const uint y_stride = PARTS == 1u ? p.y_stride : matrix.quads;
    vec4 bias = vec4(0.0);
    if (!NORM && p.columns != 0u) {
        const uint last = (p.columns - 1u) / 4u;
        bias = mask_columns(uintBitsToFloat(LOAD_SECOND(min(y_quad, last))), y_quad * 4u,
                            p.columns);
    }
    [[unroll]] for (uint i = 0u; i < M4_TILE; ++i) {
        vec4 y = joined(sum[i], slot, group_quads) + bias;
        const float factor = NORM ? norm_factor(squares[i], slot, group_quads) : 1.0;
        y *= factor;
        const uint t = min(t0 + i, p.t_end - 1u);
        if (MOST_RANK != 0u) {
            y += low_rank(t, EPILOGUE == GATE ? 1u : index, y_quad);
        }
        uint position = 0u;
        if (KEPT != 0u) {
            position = LOAD_STEP(p.positions_word + t);
        } else if (EPILOGUE == ROTATE) {
            position = step_words[p.positions_word + t];
        }
        if (EPILOGUE == ADD) {
            y += LOAD_X(p.added_offset + t * y_stride + y_quad);
        }
        if (EPILOGUE == GATE) {
            vec4 x = joined(gate[i], slot, group_quads) * factor;
            if (MOST_RANK != 0u) {
                x += low_rank(t, 0u, y_quad);
            }
            y *= x / (1.0 + exp(-x));
        }
        if (EPILOGUE == ROTATE) {
            y = (marks & 1u) != 0u ? rotate(y, n, position) : y;
        }
        bool stored = part == 0u && wanted < quad_count && t0 + i < p.t_end;
        if (KEPT != 0u) {
            const bool kept = (marks & 0x10100u) != 0u;
            keep(y, n, t, position, (marks & 0x10000u) != 0u, stored && kept);
            stored = stored && !kept;
        }
        if (stored) {
            STORE_Y(matrix.y_offset + t * y_stride + y_quad, y);
        }
    }
}
