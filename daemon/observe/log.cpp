// SPDX-License-Identifier: MIT
#include "observe/log.hpp"

#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace m4::observe {
namespace {

Level least_level = Level::info;

/// stderr is a socket under the journal and with nothing else this service is
/// started by; elsewhere the prefixes would only be noise.
bool under_journal() {
    static const bool answer = [] {
        struct stat info {};
        return fstat(STDERR_FILENO, &info) == 0 && S_ISSOCK(info.st_mode);
    }();
    return answer;
}

const char* prefix_of(Level level) {
    switch (level) {
        case Level::error:
            return SD_ERR;
        case Level::warning:
            return SD_WARNING;
        case Level::info:
            return SD_INFO;
        case Level::debug:
            return SD_DEBUG;
    }
    return SD_INFO;
}

}  // namespace

void set_log_level(Level least) {
    least_level = least;
}

void log(Level level, const char* format, ...) {
    if (level > least_level) {
        return;
    }
    // One write, so that lines of two threads do not mix.
    std::array<char, 1024> line;
    int used =
        std::snprintf(line.data(), line.size(), "%s", under_journal() ? prefix_of(level) : "m4d: ");
    va_list arguments;
    va_start(arguments, format);
    used += std::vsnprintf(line.data() + used, line.size() - used, format, arguments);
    va_end(arguments);
    const std::size_t end = std::min<std::size_t>(used, line.size() - 2);
    line[end] = '\n';
    std::size_t text = under_journal() ? std::strlen(SD_INFO) : 0;
    // Names come from clients: no line of theirs may look like one of ours.
    std::replace_if(
        line.begin() + text, line.begin() + end, [](char c) { return c >= 0 && c < ' '; }, '?');
    (void)!write(STDERR_FILENO, line.data(), end + 1);
}

}  // namespace m4::observe
