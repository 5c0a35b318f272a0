// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "file.hpp"
#include "lib/image.hpp"
#include "report.hpp"
#include "sched/adapter.hpp"

namespace m4::adapters {

/// Where a pair lies in the file and goes in the image. Plain: it comes through a pipe.
struct PlacedPair {
    std::uint32_t tensor = 0;
    std::uint32_t rank = 0;
    float scale = 0;
    std::uint16_t dtype = 0;  ///< m4_dtype
    std::uint16_t order = 0;  ///< m4_row_order
    std::uint64_t a_offset = 0;
    std::uint64_t b_offset = 0;
};

struct Verdict {
    Report report;
    std::vector<PlacedPair> pairs;  ///< where it is accepted
};

/// All that is asked of an adapter before it may be used with this image. Throws
/// nothing of the file's making: what is wrong with it is the report's reason.
[[nodiscard]] Verdict check(std::span<const std::byte> file, const firmware::Image& image);

/// For the scheduler, of an accepted file. Nothing of the file is read: who checked it
/// may have been led astray by it, so its word is held against file and image. Throws
/// Error where a pair lies outside the file or does not fit its tensor.
[[nodiscard]] std::shared_ptr<const sched::AdapterSource> open(std::shared_ptr<const File> file,
                                                               const firmware::Image& image,
                                                               const Verdict& verdict);

}  // namespace m4::adapters
