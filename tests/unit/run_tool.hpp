// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "image_samples.hpp"
#include "skip.hpp"
#include "temp_folder.hpp"

namespace m4::test {

/// What a program of ours left: exit code and texts.
struct Ran {
    int status = -1;
    std::string out;
    std::string err;
};

inline std::string file_text(const std::filesystem::path& path) {
    const auto bytes = read_file(path);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// By the shell, without input. Arguments are the tests' own text: what a
/// shell would read in them is meant.
inline Ran run_shell(const std::string& command) {
    const TempFolder temp;
    const std::string line = "(" + command + ") </dev/null >" + (temp / "out").string() + " 2>" +
                             (temp / "err").string();
    const int status = std::system(line.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, file_text(temp / "out"),
            file_text(temp / "err")};
}

inline Ran run_tool(const std::string& name, const std::string& arguments) {
    return run_shell(build_root() + "/bin/" + name + " " + arguments);
}

/// One line that begins as all of the tool's do.
inline void check_failure_of(const std::string& name, const Ran& ran, int status,
                             const std::string& part) {
    CAPTURE(ran.err);
    CHECK(ran.status == status);
    CHECK(ran.err.starts_with(name + ": "));
    CHECK(std::count(ran.err.begin(), ran.err.end(), '\n') == 1);
    CHECK(contains(ran.err, part));
}

inline bool have_openssl() {
    return run_shell("openssl version").status == 0;
}

}  // namespace m4::test
