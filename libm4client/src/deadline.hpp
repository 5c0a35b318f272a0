// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <chrono>
#include <climits>
#include <optional>

namespace m4::client {

/// A moment a blocking call must not wait beyond.
class Deadline {
   public:
    using Clock = std::chrono::steady_clock;

    [[nodiscard]] static Deadline never() { return Deadline(std::nullopt); }
    /// timeout_ms 0: at once.
    [[nodiscard]] static Deadline after_ms(int timeout_ms) {
        return Deadline(Clock::now() + std::chrono::milliseconds(timeout_ms));
    }

    /// What is left for poll(2): -1 without limit, rounded up so that a wait
    /// does not end early and spin.
    [[nodiscard]] int poll_ms() const {
        if (!at_) {
            return -1;
        }
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(*at_ - Clock::now());
        return static_cast<int>(std::clamp<long long>(left.count(), 0, INT_MAX));
    }

   private:
    explicit Deadline(std::optional<Clock::time_point> at) : at_(at) {}
    std::optional<Clock::time_point> at_;
};

}  // namespace m4::client
