// SPDX-License-Identifier: MIT
// The most probable token of each row of logits: the highest, of equal ones the
// lowest id, a NaN below all, as engine/sampler.cpp has it. One workgroup a
// row. With `advance` the token is also the row's next input, a position on.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#include "logit_key.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint stride;  // units of a row of x
    uint columns;
    uint ids_word;      // of the result for row 0
    uint rows_word;     // which row of the step row 0 belongs to
    uint tokens_word;   // of the step's row 0, as the next
    uint positions_word;
    uint advance;
} p;

// A second name for the step's words.
layout(set = 0, binding = 2, std430) buffer StepOutput {
    uint step_output[];
};

shared uint keys[gl_WorkGroupSize.x];
shared uint ids[gl_WorkGroupSize.x];

void main() {
    const uint lane = gl_LocalInvocationID.x;
    const uint row = gl_WorkGroupID.x;
    const uint x = p.x_offset + row * p.stride;
    uint best = 0u;
    uint id = 0u;
    for (uint unit = lane; unit * 4u < p.columns; unit += gl_WorkGroupSize.x) {
        const vec4 four = LOAD_X(x + unit);
        [[unroll]] for (uint k = 0u; k < 4u; ++k) {
            const uint column = unit * 4u + k;
            const uint key = column < p.columns ? key_of(four[k]) : 0u;
            id = key > best ? column : id;
            best = max(best, key);
        }
    }
    keys[lane] = best;
    ids[lane] = id;
    barrier();
    if (lane != 0u) {
        return;
    }
    for (uint other = 1u; other < gl_WorkGroupSize.x; ++other) {
        if (keys[other] > best || (keys[other] == best && ids[other] < id)) {
            best = keys[other];
            id = ids[other];
        }
    }
    step_output[p.ids_word + row] = id;
    if (p.advance != 0u) {
        const uint step_row = step_output[p.rows_word + row];
        step_output[p.tokens_word + step_row] = id;
        step_output[p.positions_word + step_row] += 1u;
    }
}
