// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "lib/recipe.hpp"

namespace m4::media {

/// a b, or the largest number where that is more.
[[nodiscard]] inline std::uint64_t product(std::uint64_t a, std::uint64_t b) {
    std::uint64_t result = 0;
    return __builtin_mul_overflow(a, b, &result) ? UINT64_MAX : result;
}

/// Throws MediaError where value is not least to most.
void check_range(const char* field, std::uint64_t value, std::uint64_t least, std::uint64_t most);

/// Throws MediaError where rate is not kMinRate to kMaxRate.
void check_rate(float rate_hz);

/// `bytes` of the file from `offset` on. Throws MediaError where they are not in it.
[[nodiscard]] std::span<const std::byte> bytes_at(std::span<const std::byte> file,
                                                  const char* field, std::uint64_t offset,
                                                  std::uint64_t bytes);

/// Throws MediaError where `items` of these are more than kMaxFeatures.
void check_features(std::uint64_t items, firmware::FeatureShape shape);

/// The number itself. Throws MediaError where it is not finite.
[[nodiscard]] float finite(float number, std::uint64_t sample, std::uint64_t channel);

/// A little-endian F32 at any address.
[[nodiscard]] float float_at(const std::byte* from);

/// "120 x 6".
[[nodiscard]] std::string shape_text(std::uint64_t rows, std::uint64_t columns);

/// "3.5", not "3.500000".
[[nodiscard]] std::string number_text(double number);

}  // namespace m4::media
