// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "skip.hpp"

namespace m4::test {

/// Why no Vulkan device with the validation layer serves here; empty: one does.
/// Asked once.
[[nodiscard]] const std::string& no_device();

/// $M4_TEST_DEVICE as Options::device; empty: the best.
[[nodiscard]] std::string test_device();

}  // namespace m4::test

/// Ends the running test case as skipped where no Vulkan device serves.
#define M4_NEEDS_DEVICE()                     \
    do {                                      \
        if (!m4::test::no_device().empty()) { \
            M4_SKIP(m4::test::no_device());   \
        }                                     \
    } while (false)
