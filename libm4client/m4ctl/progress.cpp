// SPDX-License-Identifier: MIT
#include "progress.hpp"

#include <unistd.h>

#include <cstdio>

namespace m4ctl {

namespace {

constexpr char kEraseLine[] = "\r\x1b[K";

}  // namespace

ProgressLine::ProgressLine(std::string verb)
    : verb_(std::move(verb)), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() {
    if (shown_ != kNone) {
        (void)std::fputs(kEraseLine, stderr);
    }
}

void ProgressLine::update(unsigned percent) {
    const std::lock_guard lock(mutex_);
    if (terminal_ && percent != shown_) {
        shown_ = percent;
        (void)std::fprintf(stderr, "%s%s %u %%", kEraseLine, verb_.c_str(), percent);
    }
}

}  // namespace m4ctl
