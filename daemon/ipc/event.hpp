// SPDX-License-Identifier: MIT
#pragma once

#include <systemd/sd-event.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <system_error>

#include "observe/log.hpp"

/// sd-event with owners. Loop thread only.
namespace m4::ipc {

struct LoopDeleter {
    void operator()(sd_event* loop) const { sd_event_unref(loop); }
};
using EventLoop = std::unique_ptr<sd_event, LoopDeleter>;

/// Disabled and freed with its owner, inside its own handler too.
struct SourceDeleter {
    void operator()(sd_event_source* source) const { sd_event_source_disable_unref(source); }
};
using EventSource = std::unique_ptr<sd_event_source, SourceDeleter>;

/// Throws std::system_error for the negative errno of an sd_ call.
inline void check(int status, const char* what) {
    if (status < 0) {
        throw std::system_error(-status, std::generic_category(), what);
    }
}

inline EventSource add_io(sd_event* loop, int fd, std::uint32_t events,
                          sd_event_io_handler_t handler, void* data) {
    sd_event_source* source = nullptr;
    check(sd_event_add_io(loop, &source, fd, events, handler, data), "sd_event_add_io");
    return EventSource(source);
}

inline EventSource add_timer(sd_event* loop, std::uint64_t delay_ms,
                             sd_event_time_handler_t handler, void* data) {
    constexpr std::uint64_t kMicroseconds = 1000;
    sd_event_source* source = nullptr;
    check(sd_event_add_time_relative(loop, &source, CLOCK_MONOTONIC, delay_ms * kMicroseconds,
                                     10 * kMicroseconds, handler, data),
          "sd_event_add_time_relative");
    return EventSource(source);
}

/// Runs `handler` inside a C callback: an exception ends the loop, not the C
/// frames below.
template <typename Handler>
int guarded(sd_event_source* source, Handler&& handler) {
    try {
        handler();
    } catch (const std::exception& error) {
        observe::log(observe::Level::error, "the loop failed: %s", error.what());
        sd_event_exit(sd_event_source_get_event(source), 1);
    }
    return 0;
}

}  // namespace m4::ipc
