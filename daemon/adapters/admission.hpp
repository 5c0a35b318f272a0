// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>

#include "check.hpp"

/// The check of an adapter in a process of its own that can do nothing but compute: it
/// has the file, the image's manifest and a pipe for its verdict, and may open nothing.
/// Through the pipe come the report as a packet, its size (u32) before it, and behind it
/// the pairs as they lie in memory.
namespace m4::adapters {

/// What m4d is called with to be that process.
inline constexpr const char* kCheckArgument = "--check-adapter";

/// The process's main: descriptors as Admission gives them. Returns its exit code.
[[nodiscard]] int check_main();

/// Starts such processes; any thread, each waits for its own.
class Admission {
   public:
    /// `manifest`: of the image that is served. Throws std::system_error.
    explicit Admission(std::span<const std::byte> manifest);

    /// Waits for the check, for 30 s at most; a process that dies or is late is a
    /// refusal. Throws std::system_error where none can be started.
    [[nodiscard]] Verdict check(const File& file) const;

   private:
    File manifest_;
};

}  // namespace m4::adapters
