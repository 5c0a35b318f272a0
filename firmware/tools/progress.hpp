// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

namespace m4::tools {

/// One line on standard error, rewritten as work goes on and removed at the
/// end; nothing at all where standard error is not a terminal. Thread-safe.
class ProgressLine {
   public:
    explicit ProgressLine(std::string verb);
    ~ProgressLine();
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void update(std::uint64_t done_bytes, std::uint64_t total_bytes);

   private:
    std::string verb_;
    bool terminal_;
    std::mutex mutex_;
    std::uint64_t shown_percent_ = UINT64_MAX;
    bool shown_ = false;
};

}  // namespace m4::tools
