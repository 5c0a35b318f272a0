// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "lib/builder.hpp"

namespace m4::firmware {

/// One tensor as the digest sees it: its Hugging Face name, its row-major
/// shape and its values, rotated rows in HALF_SPLIT order.
struct DigestTensor {
    std::string name;
    std::vector<std::uint64_t> shape;  ///< rank 1 or 2
    RowReader rows;
};

/// Which weights these are, whatever file they came in: SHA-256 over
///
///   "m4 source digest v1\n"
///   for each tensor, by name in byte order:
///     length of the name (u64), name, rank (u64), dimensions (u64 each),
///     values as binary16, row-major
///
/// all little-endian. Values round to nearest even; beyond binary16's range
/// they become infinity, and any NaN one NaN: so an F32, an F16 and a BF16 file
/// of one F16 model agree. A tied output and derived tensors (rope_freqs) are
/// left out by the caller. docs/importers.md.
[[nodiscard]] std::array<std::uint8_t, 32> source_digest(std::vector<DigestTensor> tensors);

}  // namespace m4::firmware
