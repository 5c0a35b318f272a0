// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace m4::fuzz {

/// Reads bytes as m4fw pack does: the first says which kind of file the others are.
/// Aborts where that ends by anything but success or an Error that names its place, or
/// where a tokeniser that was accepted gives an id out of its vocabulary. Returns whether
/// they were accepted.
bool check_importer(std::span<const std::uint8_t> bytes);

/// A small file of each kind, which is accepted.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> importer_seeds();

}  // namespace m4::fuzz
