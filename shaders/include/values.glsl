// SPDX-License-Identifier: MIT
// What every kernel sees: the values of a step and the step's own words.
//
// Values are F32 matrices in one arena. A row is padded to a multiple of 8
// floats; every kernel writes the padding of its output as zeros, so a reader
// may take whole units. Unit: 16 bytes, one vec4.
#if M4_ACCESS_ADDRESS
#define M4_ACCESS_TEXEL 1  // all but the weights
#endif
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_samplerless_texture_functions : require

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

#if M4_ACCESS_TEXEL
layout(set = 0, binding = 0) uniform textureBuffer value_texels;
layout(set = 0, binding = 1, std430) writeonly buffer ValueUnits {
    vec4 value_units[];
};
#define LOAD_X(unit) texelFetch(value_texels, int(unit))
#else
layout(set = 0, binding = 1, std430) buffer ValueUnits {
    vec4 value_units[];
};
#define LOAD_X(unit) value_units[unit]
#endif

#define STORE_Y(unit, value) value_units[unit] = (value)

layout(set = 0, binding = 2, std430) readonly buffer StepWords {
    uint step_words[];
};

/// Element `element` of the row that starts at `row_unit`.
float load_element(uint row_unit, uint element) {
    return LOAD_X(row_unit + element / 4u)[element % 4u];
}

/// Four consecutive elements; `aligned`: the first is a multiple of four.
vec4 load_elements(uint row_unit, uint element, bool aligned) {
    if (aligned) {
        return LOAD_X(row_unit + element / 4u);
    }
    return vec4(load_element(row_unit, element), load_element(row_unit, element + 1u),
                load_element(row_unit, element + 2u), load_element(row_unit, element + 3u));
}

/// `value` where its column is below `columns`, else zero.
vec4 mask_columns(vec4 value, uint first_column, uint columns) {
    return mix(vec4(0.0), value, lessThan(uvec4(first_column) + uvec4(0, 1, 2, 3), uvec4(columns)));
}
