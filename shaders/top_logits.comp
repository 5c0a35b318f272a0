// SPDX-License-Identifier: MIT
// The COUNT best tokens of each row of logits and their logits, in no order: the
// highest, of equal ones the lowest ids, a NaN below all, as engine/sampler.cpp
// has it. One workgroup a row.
//
// Selection by radix: a token's place is its key, then the complement of its id.
// Each pass counts the next byte of those that begin as the COUNT-th best does, as
// far as that is known, and so knows a byte more of it.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#include "logit_key.glsl"

layout(constant_id = 1) const uint COUNT = 64;

layout(push_constant) uniform Push {
    uint x_offset;
    uint stride;  // units of a row of x
    uint columns;  // at least COUNT
    uint result_word;    // of row 0: ids, each with its logit behind it
    uint result_stride;  // words of a row
} p;

// A second name for the step's words.
layout(set = 0, binding = 2, std430) buffer StepOutput {
    uint step_output[];
};

const uint BINS = 256;
shared uint bins[BINS];
shared uint found;

/// A place, as far as it is known.
struct Known {
    uint key, key_mask;
    uint rank, rank_mask;  // of the id's complement
};

void main() {
    const uint lane = gl_LocalInvocationID.x;
    const uint x = p.x_offset + gl_WorkGroupID.x * p.stride;
    Known least = Known(0u, 0u, 0u, 0u);  // of the COUNT-th best
    uint wanted = COUNT;                  // of those that begin as it does
    for (uint pass = 0u; pass < 8u; ++pass) {
        const uint shift = 24u - 8u * (pass % 4u);
        barrier();
        for (uint bin = lane; bin < BINS; bin += gl_WorkGroupSize.x) {
            bins[bin] = 0u;
        }
        barrier();
        for (uint unit = lane; unit * 4u < p.columns; unit += gl_WorkGroupSize.x) {
            const vec4 four = LOAD_X(x + unit);
            [[unroll]] for (uint k = 0u; k < 4u; ++k) {
                const uint key = key_of(four[k]);
                const uint rank = ~(unit * 4u + k);
                if (unit * 4u + k < p.columns && (key & least.key_mask) == least.key &&
                    (rank & least.rank_mask) == least.rank) {
                    atomicAdd(bins[((pass < 4u ? key : rank) >> shift) & 255u], 1u);
                }
            }
        }
        barrier();
        // The same in all lanes.
        uint bin = BINS - 1u;
        uint count = bins[bin];
        while (count < wanted) {
            wanted -= count;
            --bin;
            count = bins[bin];
        }
        if (pass < 4u) {
            least.key |= bin << shift;
            least.key_mask |= 255u << shift;
        } else {
            least.rank |= bin << shift;
            least.rank_mask |= 255u << shift;
        }
        if (count == wanted) {
            break;  // whatever begins so is among the best
        }
    }
    if (lane == 0u) {
        found = 0u;
    }
    barrier();
    const uint result = p.result_word + gl_WorkGroupID.x * p.result_stride;
    for (uint unit = lane; unit * 4u < p.columns; unit += gl_WorkGroupSize.x) {
        const vec4 four = LOAD_X(x + unit);
        [[unroll]] for (uint k = 0u; k < 4u; ++k) {
            const uint key = key_of(four[k]) & least.key_mask;
            const uint rank = ~(unit * 4u + k) & least.rank_mask;
            if (unit * 4u + k < p.columns &&
                (key > least.key || (key == least.key && rank >= least.rank))) {
                const uint slot = result + 2u * atomicAdd(found, 1u);
                step_output[slot] = unit * 4u + k;
                step_output[slot + 1u] = floatBitsToUint(four[k]);
            }
        }
    }
}
