// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "process.hpp"

namespace m4::test {

/// Plays the service manager: hears what sd_notify says, from the main process
/// alone (NotifyAccess=main), and is the parent of orphans. Children that are
/// left at its end are killed and reaped, so it is made before, and goes after,
/// all processes of the test. One at a time; one thread.
class Manager {
   public:
    explicit Manager(const Scratch& scratch);
    Manager(const Manager&) = delete;
    Manager& operator=(const Manager&) = delete;
    ~Manager();

    /// For the environment of what it starts.
    [[nodiscard]] std::string notify_socket() const { return "NOTIFY_SOCKET=" + path_; }
    void set_main(pid_t main) { main_ = main; }
    [[nodiscard]] pid_t main() const { return main_; }

    /// The value of the next "name=value" the main process says; what it says
    /// before is forgotten. MAINPID makes another process the main one. Throws
    /// where nothing comes, and where another process speaks.
    std::string await(const std::string& name);
    /// Signals the main process, which must be an orphan of ours, and returns
    /// its exit code; 128 + signal where killed.
    int stop_main();

   private:
    std::string path_;
    int fd_ = -1;
    pid_t main_ = -1;
    std::vector<std::string> lines_;
};

/// Waits until it is so; throws past the limit, naming `what`.
template <typename So>
void wait_until(const std::string& what, So&& so) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (!so()) {
        if (std::chrono::steady_clock::now() > end) {
            throw std::runtime_error("never: " + what);
        }
    }
}

}  // namespace m4::test
