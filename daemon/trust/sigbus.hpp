// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>

/// What becomes of a thread that reads a mapped page which is not there any
/// more: the kernel revoked the image, or its file was cut. Left alone, SIGBUS
/// ends the process with everybody's sessions.
///
/// Here the reader goes on over zeros, and whoever uses what it computed finds
/// out first that it is worthless. This holds for every thread of the process,
/// those of drivers included: SIGBUS cannot be blocked in it (see
/// pthread_sigmask in sigbus.cpp).
namespace m4::trust::sigbus {

/// Ranges watched at once.
inline constexpr std::size_t kRangesMax = 4;

/// One mapping. Fixed places, so that the handler follows no pointer that may
/// be freed under it.
struct Range;

/// From now on a fault in [begin, begin + size) replaces all of it by zero
/// pages and sets lost(). Whole pages. Any thread. Throws std::runtime_error
/// when all places are taken and std::system_error where the handler cannot be
/// installed.
[[nodiscard]] Range* watch(const void* begin, std::size_t size);

/// No longer. Before the range is unmapped.
void unwatch(Range* range) noexcept;

/// Set before the first zero can be read.
[[nodiscard]] const std::atomic<bool>& lost(const Range* range) noexcept;

}  // namespace m4::trust::sigbus
