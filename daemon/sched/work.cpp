// SPDX-License-Identifier: MIT
#include "sched/work.hpp"

namespace m4::sched {
namespace {

std::uint64_t microseconds(Clock::duration duration) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
}

}  // namespace

Usage Work::usage_now() const {
    const Clock::time_point now = Clock::now();
    const Clock::time_point never{};
    Usage usage = counts_;
    usage.queue_us = microseconds((started_at_ == never ? now : started_at_) - arrived_);
    usage.ttft_us = first_token_at_ == never ? 0 : microseconds(first_token_at_ - arrived_);
    usage.total_us = microseconds(now - arrived_);
    return usage;
}

}  // namespace m4::sched
