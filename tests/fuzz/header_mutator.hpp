// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max);

namespace m4::fuzz {

/// Mutates a safetensors file from `begin` on, mostly the header alone, its length
/// following: no mutation gets past that by chance. Returns the new size.
std::size_t mutate_safetensors(std::uint8_t* data, std::size_t begin, std::size_t size,
                               std::size_t max, unsigned seed);

}  // namespace m4::fuzz
