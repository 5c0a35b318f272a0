// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

/// How byte-level vocabularies write bytes as text: each as a character that can be seen.
namespace m4::firmware {

/// Bytes in the order of their ids, each with its character: those that can be seen
/// are their own, the others take what follows Latin-1.
[[nodiscard]] std::vector<std::pair<std::uint8_t, std::uint32_t>> byte_characters();

/// One of those characters as UTF-8; they all have one byte or two.
[[nodiscard]] std::string utf8_of(std::uint32_t code);

}  // namespace m4::firmware
