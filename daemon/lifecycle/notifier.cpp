// SPDX-License-Identifier: MIT
#include "lifecycle/notifier.hpp"

#include <systemd/sd-daemon.h>

#include <array>
#include <cstdarg>
#include <cstdio>

namespace m4::lifecycle {

void Notifier::say(const char* format, ...) const {
    if (!heard_) {
        return;
    }
    std::array<char, 2048> text{};
    va_list arguments;
    va_start(arguments, format);
    (void)std::vsnprintf(text.data(), text.size(), format, arguments);
    va_end(arguments);
    (void)sd_notify(0, text.data());
}

}  // namespace m4::lifecycle
