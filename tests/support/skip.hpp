// SPDX-License-Identifier: MIT
#pragma once

#include <string>

namespace m4::test {

/// Counts the running test case as skipped and says why. Use M4_SKIP.
void skip_current(const std::string& reason);

/// The reference data folder: $M4_SHARED, else ../shared beside the source
/// tree; empty where absent. A test that needs it skips without it.
[[nodiscard]] std::string shared_data();

/// Root of the source tree and of the build tree.
[[nodiscard]] std::string source_root();
[[nodiscard]] std::string build_root();

}  // namespace m4::test

/// Ends the running test case as skipped: neither passed nor failed.
#define M4_SKIP(reason)                 \
    do {                                \
        m4::test::skip_current(reason); \
        return;                         \
    } while (false)
