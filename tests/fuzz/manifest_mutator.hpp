// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace m4::fuzz {

/// Changes `size` bytes at `data`, in room for `max`; returns the new size.
using ByteMutator =
    std::function<std::size_t(std::uint8_t* data, std::size_t size, std::size_t max)>;

/// A mutation that knows manifests: fields, table entries, the program blob,
/// moved and resized. Often it then repairs sizes, the tree's upper levels and
/// the digest, for no mutation gets past these by chance. The same seed and
/// bytes give the same result as far as `bytes` does.
std::size_t mutate_manifest(std::uint8_t* data, std::size_t size, std::size_t max,
                            std::uint32_t seed, const ByteMutator& bytes);

}  // namespace m4::fuzz
