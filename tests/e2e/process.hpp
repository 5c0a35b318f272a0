// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace m4::test {

/// What a finished program left.
struct Finished {
    int status = -1;  ///< exit code; 128 + signal where killed
    std::string out;
    std::string err;
};

/// A child with its stdout and stderr in files. Killed (SIGKILL) and reaped on
/// destruction if it still runs. One thread.
class Process {
   public:
    Process(const std::vector<std::string>& argv, const std::filesystem::path& scratch,
            const std::vector<std::string>& environment = {});
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process();

    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] bool running();
    void signal(int number) const;
    /// Wait for the end, at most `limit`; throws std::runtime_error with the
    /// child's stderr past it.
    Finished wait(std::chrono::seconds limit = std::chrono::seconds(120));
    [[nodiscard]] std::string err() const;

   private:
    pid_t pid_ = -1;
    int status_ = -1;
    bool reaped_ = false;
    std::filesystem::path out_;
    std::filesystem::path err_;
};

/// Run to the end with `input` on stdin.
Finished run(const std::vector<std::string>& argv, const std::string& input = {},
             const std::vector<std::string>& environment = {});

/// A folder of its own under the system's temporary folder, removed at the end.
class Scratch {
   public:
    Scratch();
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    [[nodiscard]] std::filesystem::path operator/(const std::string& name) const {
        return path_ / name;
    }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

   private:
    std::filesystem::path path_;
};

/// build/bin/<name>.
std::string binary(const std::string& name);

/// True where a Vulkan driver is installed, so that m4d can run at all.
bool have_vulkan_driver();

}  // namespace m4::test
