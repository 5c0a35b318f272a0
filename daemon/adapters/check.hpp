// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "adapters/adapter.hpp"
#include "adapters/match.hpp"
#include "file.hpp"
#include "report.hpp"
#include "sched/adapter.hpp"

namespace m4::adapters {

/// All that is asked of an adapter before it may be used with this image. Throws
/// nothing of the file's making: what is wrong with it is the report's reason.
[[nodiscard]] Report check(std::span<const std::byte> file, const firmware::Image& image);

/// For the scheduler, of a file that check() has accepted for the image. Throws Error
/// where it has not.
[[nodiscard]] std::shared_ptr<const sched::AdapterSource> open(std::shared_ptr<const File> file,
                                                               const firmware::Image& image);

}  // namespace m4::adapters
