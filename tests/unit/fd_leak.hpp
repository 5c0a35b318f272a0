// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>

namespace m4::test {

[[nodiscard]] inline std::size_t open_fd_count() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
        ++count;
    }
    return count;
}

/// Fails the test when the scope leaves descriptors behind.
struct FdLeakCheck {
    std::size_t before = open_fd_count();
    ~FdLeakCheck() { CHECK(open_fd_count() == before); }
};

}  // namespace m4::test
