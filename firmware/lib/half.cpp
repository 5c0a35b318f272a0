// SPDX-License-Identifier: MIT
#include "half.hpp"

#include <bit>
#include <cmath>

namespace m4::firmware {

namespace {

constexpr std::uint32_t kHalfInfinity = 0x7c00;
constexpr std::uint32_t kHalfQuietNan = 0x7e00;
constexpr std::uint32_t kFloatInfinity = 0x7f800000;
constexpr std::uint32_t kSmallestNormal = 0x38800000;  // 2^-14 as F32
constexpr std::uint32_t kRebias = 112U << 23U;         // exponent bias 127 -> 15

/// `bits` >> `shift`, to nearest, ties to even. 0 < shift < 32.
std::uint32_t shift_to_even(std::uint32_t bits, std::uint32_t shift) {
    const std::uint32_t half = 1U << (shift - 1U);
    const std::uint32_t odd = (bits >> shift) & 1U;
    return (bits + half - 1U + odd) >> shift;
}

}  // namespace

std::uint16_t to_half(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits >> 16U) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7fffffffU;

    std::uint32_t result = 0;
    if (magnitude > kFloatInfinity) {
        result = kHalfQuietNan;
    } else if (magnitude >= kSmallestNormal) {
        // Rounding may carry into the exponent, and from the largest finite
        // value into infinity: both are what IEEE 754 asks for.
        const std::uint32_t rounded =
            magnitude == kFloatInfinity ? kHalfInfinity : shift_to_even(magnitude - kRebias, 13);
        result = rounded < kHalfInfinity ? rounded : kHalfInfinity;
    } else {
        // A denormal counts 2^-24: the significand moves right by what the
        // exponent falls short; past 24 places nothing is left to round.
        const std::uint32_t exponent = magnitude >> 23U;
        const std::uint32_t significand = (magnitude & 0x7fffffU) | 0x800000U;
        const std::uint32_t shift = 126U - exponent;
        result = exponent == 0 || shift > 24U ? 0U : shift_to_even(significand, shift);
    }
    return static_cast<std::uint16_t>(sign | result);
}

float from_half(std::uint16_t bits) noexcept {
    const std::uint32_t sign = (bits & 0x8000U) << 16U;
    const std::uint32_t exponent = (bits >> 10U) & 0x1fU;
    const std::uint32_t significand = bits & 0x3ffU;

    if (exponent == 0) {
        const float magnitude = std::ldexp(static_cast<float>(significand), -24);
        return sign != 0 ? -magnitude : magnitude;
    }
    const std::uint32_t wide = exponent == 0x1fU ? 0xffU : exponent + 112U;
    return std::bit_cast<float>(sign | (wide << 23U) | (significand << 13U));
}

bool fits_half(float value) noexcept {
    return !std::isfinite(value) || std::fabs(value) < 65520.0F;
}

}  // namespace m4::firmware
