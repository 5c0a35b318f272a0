// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>

namespace m4::lifecycle {

/// Words to the service manager, which listens to the main process alone: a
/// successor that is not yet it, and a predecessor that is no longer, are
/// silent. Any thread.
class Notifier {
   public:
    explicit Notifier(bool heard) : heard_(heard) {}

    void set_heard(bool heard) { heard_ = heard; }
    /// As sd_notifyf(3); nothing without a service manager.
    [[gnu::format(printf, 2, 3)]] void say(const char* format, ...) const;

   private:
    std::atomic<bool> heard_;
};

}  // namespace m4::lifecycle
