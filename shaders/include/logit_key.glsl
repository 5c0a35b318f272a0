// SPDX-License-Identifier: MIT
/// Ordered as the floats are, 0 below all; by bits, as a driver may take a NaN
/// for what it likes.
uint key_of(float value) {
    uint bits = floatBitsToUint(value);
    bits = (bits & 0x7fffffffu) > 0x7f800000u ? 0xff800000u : bits;  // NaN: -inf
    bits = bits == 0x80000000u ? 0u : bits;                          // -0: 0
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}
