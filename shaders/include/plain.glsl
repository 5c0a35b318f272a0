// SPDX-License-Identifier: MIT
// A PLAIN F32 matrix of the image in set 1, row after row without padding.
#include "weights.glsl"

/// Unit `unit` of row `row`, as a row of values has it: zeros behind its end.
vec4 plain_unit(uint row, uint unit, uint columns) {
    if (columns % 4u == 0u) {
        return unit < columns / 4u ? uintBitsToFloat(LOAD_W(row * (columns / 4u) + unit))
                                   : vec4(0.0);
    }
    vec4 result = vec4(0.0);
    for (uint k = 0u; k < 4u; ++k) {
        if (unit * 4u + k < columns) {
            const uint element = row * columns + unit * 4u + k;
            result[k] = uintBitsToFloat(LOAD_W(element / 4u)[element % 4u]);
        }
    }
    return result;
}
