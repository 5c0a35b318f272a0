// SPDX-License-Identifier: MIT
// y = the windows of each item's planes, one a row: by plane, then down, then
// across, as the weights of a convolution lie. One lane a unit of y.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint x_stride;  // units of a row
    uint y_stride;
    uint channels;
    uint height;  // of a plane
    uint width;
    uint windows;         // of an item
    uint windows_across;  // of a plane
    uint kernel_h;
    uint kernel_w;
    uint stride_h;
    uint stride_w;
    uint pad_h;
    uint pad_w;
    uint unit_count;
} p;

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index >= p.unit_count) {
        return;
    }
    const uint row = index / p.y_stride;
    const uint item = row / p.windows;
    const uint window = row % p.windows;
    const uint top = window / p.windows_across * p.stride_h;
    const uint left = window % p.windows_across * p.stride_w;
    vec4 y = vec4(0.0);
    for (uint k = 0u; k < 4u; ++k) {
        const uint column = index % p.y_stride * 4u + k;
        const uint channel = column / (p.kernel_h * p.kernel_w);
        const uint down = top + column / p.kernel_w % p.kernel_h;
        const uint across = left + column % p.kernel_w;
        if (channel < p.channels && down >= p.pad_h && down < p.pad_h + p.height &&
            across >= p.pad_w && across < p.pad_w + p.width) {
            const uint x_row = (item * p.channels + channel) * p.height + down - p.pad_h;
            y[k] = load_element(p.x_offset + x_row * p.x_stride, across - p.pad_w);
        }
    }
    STORE_Y(p.y_offset + index, y);
}
