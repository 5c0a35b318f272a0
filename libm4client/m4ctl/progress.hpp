// SPDX-License-Identifier: MIT
#pragma once

#include <mutex>
#include <string>

namespace m4ctl {

/// One line on standard error, rewritten as work goes on and removed at the
/// end; nothing at all where standard error is no terminal. Thread-safe.
class ProgressLine {
   public:
    explicit ProgressLine(std::string verb);
    ~ProgressLine();
    ProgressLine(const ProgressLine&) = delete;
    ProgressLine& operator=(const ProgressLine&) = delete;

    void update(unsigned percent);

   private:
    std::string verb_;
    bool terminal_;
    std::mutex mutex_;
    unsigned shown_ = kNone;
    static constexpr unsigned kNone = 101;
};

}  // namespace m4ctl
