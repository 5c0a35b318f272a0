// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

/// Bounds of an adapter. They keep a reader's work, and the sizes it computes, small
/// against hostile ones; docs/adapter-format.md has them, too.
namespace m4::firmware {

inline constexpr std::uint64_t kMaxAdapterBytes = 1ULL << 30U;
inline constexpr std::uint64_t kMaxAdapterMetadata = 4ULL << 20U;  ///< bytes
inline constexpr std::size_t kMaxPairs = 4096;
inline constexpr std::uint32_t kMaxRank = 256;
inline constexpr std::size_t kMaxHeadTensors = 64;
inline constexpr std::size_t kMaxTensorNameBytes = 256;
inline constexpr std::size_t kMaxAdapterNameBytes = 64;  ///< of name, task, architecture, source
inline constexpr std::size_t kMaxBaseNameBytes = 256;
inline constexpr std::size_t kMaxTemplateBytes = 16'384;

}  // namespace m4::firmware
