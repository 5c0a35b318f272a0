// SPDX-License-Identifier: MIT
// m4ctl: ask and look after m4d, through libm4client alone, and the images it
// serves, through the store and sysfs. m4ctl(1) is the contract; each command
// is one file.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "commands.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

int fail(ExitCode exit_code, const std::string& words) {
    (void)std::fflush(stdout);
    const std::string line = "m4ctl: " + printable(words, true) + "\n";
    (void)std::fwrite(line.data(), 1, line.size(), stderr);
    return exit_code;
}

void add_global(CLI::App& app, Global& global) {
    app.add_option("--socket", global.socket,
                   "Socket of the service [$M4_SOCKET, /run/m4/m4d.sock]")
        ->type_name("PATH");
    app.add_option("--timeout", global.timeout_s, "Limit of each wait for the service [none]")
        ->type_name("SECONDS")
        ->check(CLI::Range(0.0, 1e6).description(""));
    app.add_flag("--json", global.json, "Print JSON with stable keys");
}

std::string first_line(std::string text) {
    while (!text.empty() && text.back() == '\n') {
        text.pop_back();
    }
    return text;
}

int run(int argc, char** argv) {
    CLI::App app("Ask and look after m4d, the service of the device's foundation model", "m4ctl");
    app.set_version_flag("--version", std::string("m4ctl ") + m4_version());
    // Global options are taken before and after the command.
    app.fallthrough();
    app.require_subcommand(1);
    app.footer("Every command takes --socket, --timeout and --json. See m4ctl(1).");
    Global global;
    Action action;
    add_global(app, global);
    add_status(app, global, action);
    add_ps(app, global, action);
    add_run(app, global, action);
    add_score(app, global, action);
    add_tokens(app, global, action);
    add_firmware(app, global, action);
    add_doctor(app, global, action);
    add_bench(app, global, action);
    add_senses(app, global, action);
    add_transcribe(app, global, action);
    add_adapter(app, global, action);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& success) {
        return app.exit(success);  // --help, --version
    } catch (const CLI::ParseError& error) {
        return fail(kExitUsage, first_line(error.what()));
    }
    const int exit_code = action();
    flush_output();
    return exit_code;
}

}  // namespace

std::string text_or_stdin(const std::string& text, bool given, const char* what) {
    if (given && text != "-") {
        return text;
    }
    if (!given && ::isatty(STDIN_FILENO) == 1) {
        throw Failure(kExitUsage, std::string(what) + " is needed, as an argument or on stdin");
    }
    return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

}  // namespace m4ctl

int main(int argc, char** argv) {
    try {
        return m4ctl::run(argc, argv);
    } catch (const m4ctl::Failure& failure) {
        return m4ctl::fail(failure.exit_code(), failure.what());
    } catch (const std::exception& error) {
        return m4ctl::fail(m4ctl::kExitFailed, error.what());
    }
}
