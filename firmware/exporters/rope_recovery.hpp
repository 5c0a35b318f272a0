// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "importers/rope_table.hpp"

namespace m4::firmware {

/// The settings behind a table that rope_table() made: an image keeps angles
/// only. `table` is [fine_rows + coarse, dimensions] as the operator reads it.
/// A base with one factor for all pairs is found where it gives the table bit
/// for bit; any other table comes as a base with a factor for each pair.
/// Throws Error(place) where the numbers are not rotations of a position.
[[nodiscard]] RopeSettings recover_rope(std::span<const float> table, std::uint32_t dimensions,
                                        std::uint32_t fine_rows, const std::string& place);

}  // namespace m4::firmware
