// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace m4::fuzz {

/// Adapter files that are accepted: pairs of both types, a head, texts.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> adapter_seeds();

/// Reads the file as it is, and once more with the header's sizes put right, so that
/// what lies behind is reached. Aborts where something accepted breaks a promise; what
/// is refused must be refused by an Error. False: both refused.
bool check_adapter(std::span<const std::uint8_t> bytes);

}  // namespace m4::fuzz
