// SPDX-License-Identifier: MIT
// Rows of heads as results: HEAD_DIM wide each, y_offset, stride and heads among
// the push constants.
const bool ALIGNED = HEAD_DIM % 4u == 0u;

// A second name for the values: heads that do not start at a unit are stored
// float by float. A kernel stores through one of the two only.
layout(set = 0, binding = 1, std430) writeonly buffer ValueFloats {
    float value_floats[];
};

/// Four elements of head `head` of row t, from `element` on.
void store(uint t, uint head, uint element, vec4 value) {
    const uint start = head * HEAD_DIM + element;
    if (ALIGNED) {
        STORE_Y(p.y_offset + t * p.stride + start / 4u, value);
        return;
    }
    for (uint k = 0u; k < 4u && element + k < HEAD_DIM; ++k) {
        value_floats[(p.y_offset + t * p.stride) * 4u + start + k] = value[k];
    }
}

/// The last head writes the row's padding.
void store_padding(uint t, uint head) {
    if (head + 1u < p.heads) {
        return;
    }
    for (uint i = p.heads * HEAD_DIM; i < p.stride * 4u; ++i) {
        value_floats[(p.y_offset + t * p.stride) * 4u + i] = 0.0;
    }
}
