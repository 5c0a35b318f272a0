// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

namespace m4::fuzz {

/// Whole manifests that ImageBuilder wrote: models of several shapes, one part
/// or a program with biases, one shard or more.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> manifest_seeds();

}  // namespace m4::fuzz
