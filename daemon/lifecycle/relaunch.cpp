// SPDX-License-Identifier: MIT
#include "lifecycle/relaunch.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace m4::lifecycle {
namespace {

constexpr std::string_view kReportName = "successor";
constexpr std::string_view kBoundName = "bound";
constexpr std::string_view kPassedName = "passed";
constexpr const char* kSelf = "/proc/self/exe";
constexpr std::string_view kListenPid = "LISTEN_PID=";
constexpr std::string_view kWatchdogPid = "WATCHDOG_PID=";
constexpr std::size_t kPidDigits = 10;

[[noreturn]] void throw_errno(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

/// Everything the new process is given, made before fork: between fork and
/// exec only what is async-signal-safe may be called.
class Prepared {
   public:
    Prepared(const Launch& launch, int listening_fd, SocketOwner owner, int report_fd)
        : executable_(launch.executable),
          arguments_(launch.arguments),
          listening_fd_(listening_fd),
          report_fd_(report_fd) {
        for (const std::string& variable : launch.environment) {
            const std::string_view name = std::string_view(variable).substr(0, variable.find('='));
            if (name == "WATCHDOG_PID") {
                environment_.push_back(std::string(kWatchdogPid) + std::string(kPidDigits, ' '));
            } else if (name != "LISTEN_FDS" && name != "LISTEN_FDNAMES" && name != "LISTEN_PID") {
                environment_.push_back(variable);
            }
        }
        environment_.emplace_back("LISTEN_FDS=2");
        environment_.push_back(
            "LISTEN_FDNAMES=" + std::string(owner == SocketOwner::us ? kBoundName : kPassedName) +
            ":" + std::string(kReportName));
        // The pid is written over the blanks when it is known.
        environment_.push_back(std::string(kListenPid) + std::string(kPidDigits, ' '));
        point(arguments_, argv_);
        point(environment_, envp_);
    }

    /// In the new process. Never returns.
    [[noreturn]] void become() noexcept {
        const pid_t self = ::getpid();
        for (std::string& variable : environment_) {
            for (const std::string_view name : {kListenPid, kWatchdogPid}) {
                if (std::string_view(variable).starts_with(name)) {
                    write_number(variable.data() + name.size(), self);
                }
            }
        }
        sigset_t none;
        sigemptyset(&none);
        // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread is left here
        (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
        // Away from where they go first: they may lie there, crosswise.
        const int listener = ::fcntl(listening_fd_, F_DUPFD, 16);
        const int report = ::fcntl(report_fd_, F_DUPFD, 16);
        const bool placed = ::dup2(listener, SD_LISTEN_FDS_START) >= 0 &&
                            ::dup2(report, SD_LISTEN_FDS_START + 1) >= 0 &&
                            ::close_range(SD_LISTEN_FDS_START + 2, ~0U, 0) == 0;
        if (placed && ::write(SD_LISTEN_FDS_START + 1, &self, sizeof self) == sizeof self) {
            (void)::execve(executable_.c_str(), argv_.data(), envp_.data());
            (void)::execve(kSelf, argv_.data(), envp_.data());
        }
        ::_exit(127);
    }

   private:
    static void point(std::vector<std::string>& texts, std::vector<char*>& pointers) {
        for (std::string& text : texts) {
            pointers.push_back(text.data());
        }
        pointers.push_back(nullptr);
    }

    static void write_number(char* where, pid_t number) noexcept {
        std::array<char, kPidDigits> digits{};
        std::size_t count = 0;
        for (; number > 0; number /= 10) {
            digits[count++] = static_cast<char>('0' + number % 10);
        }
        while (count > 0) {
            *where++ = digits[--count];
        }
        *where = '\0';  // a string's own end is behind the blanks
    }

    std::string executable_;
    std::vector<std::string> arguments_;
    std::vector<std::string> environment_;
    std::vector<char*> argv_;
    std::vector<char*> envp_;
    int listening_fd_;
    int report_fd_;
};

}  // namespace

Launch remember_launch(int argc, char** argv, char** environment) {
    Launch launch;
    launch.arguments.assign(argv, argv + argc);
    for (; *environment != nullptr; ++environment) {
        launch.environment.emplace_back(*environment);
    }
    std::array<char, 4096> path{};
    const ssize_t length = ::readlink(kSelf, path.data(), path.size() - 1);
    launch.executable = length > 0 ? std::string(path.data(), static_cast<std::size_t>(length))
                                   : std::string(kSelf);
    return launch;
}

void start_successor(const Launch& launch, int listening_fd, SocketOwner owner, int report_fd) {
    Prepared prepared(launch, listening_fd, owner, report_fd);
    const pid_t between = ::fork();
    if (between < 0) {
        throw_errno("fork");
    }
    if (between == 0) {
        // Once more, and gone: the orphan gets another parent.
        const pid_t successor = ::_Fork();
        if (successor == 0) {
            prepared.become();
        }
        ::_exit(successor < 0 ? 1 : 0);
    }
    int status = 0;
    while (::waitpid(between, &status, 0) < 0) {
        if (errno != EINTR) {
            throw_errno("waitpid");
        }
    }
    if (status != 0) {
        throw std::runtime_error("no second process can be made");
    }
}

Inherited take_inherited() {
    char** raw_names = nullptr;
    const int count = sd_listen_fds_with_names(1, &raw_names);
    std::vector<std::string> names;
    for (int i = 0; i < count; ++i) {
        names.emplace_back(raw_names[i]);
        std::free(raw_names[i]);
    }
    std::free(raw_names);
    if (count < 0) {
        throw std::system_error(-count, std::generic_category(), "sd_listen_fds");
    }
    Inherited inherited;
    if (count > 0) {
        inherited.listener = UniqueFd(SD_LISTEN_FDS_START);
    }
    if (count == 2 && names[1] == kReportName) {
        inherited.report = UniqueFd(SD_LISTEN_FDS_START + 1);
        inherited.owner = names[0] == kBoundName ? SocketOwner::us : SocketOwner::manager;
    } else if (count > 1) {
        throw std::runtime_error("the service manager passed more than one socket");
    }
    return inherited;
}

}  // namespace m4::lifecycle
