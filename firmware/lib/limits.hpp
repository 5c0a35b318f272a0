// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

/// Bounds of a program that no honest image comes near. They keep the work of
/// a reader, and the sizes it computes, small against hostile ones.
namespace m4::firmware {

inline constexpr std::size_t kMaxParts = 256;
inline constexpr std::size_t kMaxPrograms = 16;  ///< of one part
inline constexpr std::size_t kMaxValues = 65'536;
inline constexpr std::size_t kMaxStates = 65'536;
inline constexpr std::size_t kMaxOps = 65'536;
inline constexpr std::size_t kMaxPorts = 64;
inline constexpr std::size_t kMaxNameBytes = 64;
inline constexpr std::size_t kMaxChannels = 64;  ///< of a recipe
inline constexpr std::size_t kMaxLabels = 65'536;
inline constexpr std::size_t kMaxLabelBytes = 256;
inline constexpr std::size_t kMaxLanguages = 1024;
inline constexpr std::size_t kMaxSuppressed = 65'536;  ///< tokens, of each kind
inline constexpr std::uint32_t kMaxContext = 1U << 24U;
inline constexpr std::uint64_t kMaxValueBytes = 1ULL << 30U;  ///< of one token

}  // namespace m4::firmware
