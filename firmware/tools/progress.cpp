// SPDX-License-Identifier: MIT
#include "progress.hpp"

#include <unistd.h>

#include <iostream>

#include "print.hpp"

namespace m4::tools {

namespace {

constexpr const char* kEraseLine = "\r\x1b[K";

}  // namespace

ProgressLine::ProgressLine(std::string verb)
    : verb_(std::move(verb)), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
    if (shown_) {
        std::cerr << kEraseLine << std::flush;
    }
}

void ProgressLine::update(std::uint64_t done_bytes, std::uint64_t total_bytes) {
    if (!terminal_ || total_bytes == 0) {
        return;
    }
    const std::uint64_t percent = done_bytes * 100 / total_bytes;
    const std::lock_guard lock(mutex_);
    // Threads report in any order: the line only moves forward.
    if (shown_ && percent <= shown_percent_) {
        return;
    }
    shown_ = true;
    shown_percent_ = percent;
    std::cerr << kEraseLine << verb_ << ' ' << percent << " % of " << size_text(total_bytes)
              << std::flush;
}

}  // namespace m4::tools
