// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace m4::firmware {

/// IEEE 754 binary16 nearest to `value`, ties to even; denormals are exact.
/// A value of magnitude 65520 or more becomes an infinity, a NaN stays one:
/// a caller that must not lose a finite value asks fits_half() first.
[[nodiscard]] std::uint16_t to_half(float value) noexcept;

/// Exact.
[[nodiscard]] float from_half(std::uint16_t bits) noexcept;

/// False for a finite value that would round to an infinity.
[[nodiscard]] bool fits_half(float value) noexcept;

}  // namespace m4::firmware
