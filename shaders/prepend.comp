// SPDX-License-Identifier: MIT
// y = rows of the image, then the item's own, item by item. One lane a unit of y.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"
#include "plain.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint stride;      // units of a row, of x and y
    uint item_rows;   // of x
    uint added_rows;  // before them
    uint columns;
    uint unit_count;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.unit_count) {
        return;
    }
    const uint unit = index % p.stride;
    const uint rows = p.item_rows + p.added_rows;
    const uint item = index / p.stride / rows;
    const uint row = index / p.stride % rows;
    vec4 y;
    if (row < p.added_rows) {
        y = plain_unit(row, unit, p.columns);
    } else {
        const uint x_row = item * p.item_rows + row - p.added_rows;
        y = LOAD_X(p.x_offset + x_row * p.stride + unit);
    }
    STORE_Y(p.y_offset + index, y);
}
