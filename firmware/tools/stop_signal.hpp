// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>

namespace m4::tools {

/// While this object lives, SIGINT and SIGTERM end the writing by an error, so
/// that what is half written is removed.
class StopOnSignal {
   public:
    StopOnSignal();
    ~StopOnSignal();
    StopOnSignal(const StopOnSignal&) = delete;
    StopOnSignal& operator=(const StopOnSignal&) = delete;

    /// Throws Error where one has come. Called between pieces of the work.
    static void check(const std::filesystem::path& out);
};

}  // namespace m4::tools
