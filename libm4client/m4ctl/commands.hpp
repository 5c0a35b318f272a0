// SPDX-License-Identifier: MIT
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "handles.hpp"

namespace m4ctl {

/// What the command line asks for; main() runs it once all is parsed. Returns
/// the exit code.
using Action = std::function<int()>;

// Each adds one command (and its options) to the parser; when it is the one
// named, `action` becomes what it does. `global` is filled by then.
void add_status(CLI::App& app, const Global& global, Action& action);
void add_ps(CLI::App& app, const Global& global, Action& action);
void add_run(CLI::App& app, const Global& global, Action& action);
void add_score(CLI::App& app, const Global& global, Action& action);
void add_tokens(CLI::App& app, const Global& global, Action& action);
void add_firmware(CLI::App& app, const Global& global, Action& action);
void add_doctor(CLI::App& app, const Global& global, Action& action);
void add_bench(CLI::App& app, const Global& global, Action& action);
/// embed, classify, similar, parts
void add_senses(CLI::App& app, const Global& global, Action& action);
void add_transcribe(CLI::App& app, const Global& global, Action& action);
void add_adapter(CLI::App& app, const Global& global, Action& action);

/// The text itself, or all of stdin for "-" and for no text where stdin is no
/// terminal; a usage failure otherwise. `what` names it: "a prompt".
[[nodiscard]] std::string text_or_stdin(const std::string& text, bool given, const char* what);

}  // namespace m4ctl
