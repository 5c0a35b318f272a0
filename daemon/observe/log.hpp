// SPDX-License-Identifier: MIT
#pragma once

/// Lines to stderr, each with its priority in the form the journal reads when
/// stderr is the journal. Any thread; below everything else in the daemon.
namespace m4::observe {

enum class Level { error, warning, info, debug };

/// Lines below `least` are dropped. Before other threads start.
void set_log_level(Level least);

/// One line, without a newline at its end. printf format.
[[gnu::format(printf, 2, 3)]] void log(Level level, const char* format, ...);

}  // namespace m4::observe
