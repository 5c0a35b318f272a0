// SPDX-License-Identifier: MIT
// y = f(x). One lane a unit. Each f maps the padding's zeros to zero. The error
// function is formula 7.1.26 of Abramowitz and Stegun, good to 1.5e-7; tanh goes
// by exp of the magnitude, which does not overflow.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "values.glsl"

layout(constant_id = 1) const uint FUNCTION = 1;  // m4::firmware::Activation

layout(push_constant) uniform Push {
    uint x_offset;
    uint y_offset;
    uint unit_count;
} p;

vec4 error_function(vec4 x) {
    const vec4 a = abs(x);
    const vec4 t = 1.0 / (1.0 + 0.3275911 * a);
    const vec4 poly =
        ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t +
         0.254829592) *
        t;
    return sign(x) * (1.0 - poly * exp(-a * a));
}

vec4 hyperbolic_tangent(vec4 x) {
    const vec4 e = exp(-2.0 * abs(x));
    return sign(x) * (1.0 - e) / (1.0 + e);
}

void main() {
    const uint index = gl_GlobalInvocationID.x;
    if (index < p.unit_count) {
        const vec4 x = LOAD_X(p.x_offset + index);
        vec4 y = x;
        if (FUNCTION == 1u) {
            y = x / (1.0 + exp(-x));
        } else if (FUNCTION == 2u) {
            y = 0.5 * x * (1.0 + error_function(x * 0.70710678));
        } else if (FUNCTION == 3u) {
            y = 0.5 * x * (1.0 + hyperbolic_tangent(0.79788456 * (x + 0.044715 * x * x * x)));
        } else if (FUNCTION == 4u) {
            y = x / (1.0 + exp(-1.702 * x));
        } else if (FUNCTION == 5u) {
            y = max(x, vec4(0.0));
        } else if (FUNCTION == 6u) {
            y = hyperbolic_tangent(x);
        }
        STORE_Y(p.y_offset + index, y);
    }
}
