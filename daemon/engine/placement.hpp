// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace m4::engine {

/// When a value is needed: from the operator that defines it to the last one
/// that reads it, both included. Operators are numbered in program order.
struct Lifetime {
    std::uint64_t size_bytes = 0;  ///< 0: takes no place
    std::size_t first = 0;
    std::size_t last = 0;
};

struct Placement {
    std::vector<std::uint64_t> offsets;  ///< by value
    std::uint64_t size_bytes = 0;        ///< of the arena
};

/// Gives each value a place in one arena so that values needed at the same
/// time do not overlap. Linear scan in order of definition, lowest gap that
/// fits. Offsets are multiples of `alignment`.
[[nodiscard]] Placement place_values(std::span<const Lifetime> values, std::uint64_t alignment);

}  // namespace m4::engine
