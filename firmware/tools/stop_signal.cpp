// SPDX-License-Identifier: MIT
#include "stop_signal.hpp"

#include <csignal>

#include "lib/error.hpp"

namespace m4::tools {

namespace {

volatile std::sig_atomic_t stop_signal = 0;

}  // namespace

StopOnSignal::StopOnSignal() {
    std::signal(SIGINT, [](int signal) { stop_signal = signal; });
    std::signal(SIGTERM, [](int signal) { stop_signal = signal; });
}

StopOnSignal::~StopOnSignal() {
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
}

void StopOnSignal::check(const std::filesystem::path& out) {
    if (stop_signal != 0) {
        throw firmware::Error(out.string(), "interrupted, nothing was written");
    }
}

}  // namespace m4::tools
