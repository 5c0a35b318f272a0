// SPDX-License-Identifier: MIT
#include "admission.hpp"

#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "adapters/limits.hpp"
#include "lib/error.hpp"
#include "lib/sha256.hpp"

namespace m4::adapters {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLongest{30};
constexpr int kFileFd = 3;
constexpr int kManifestFd = 4;
constexpr rlim_t kMostMemory = 3ULL << 30;

[[noreturn]] void throw_errno(int error, const char* what) {
    throw std::system_error(error, std::generic_category(), what);
}

// ---- in the process

void limit(__rlimit_resource_t what, rlim_t value) {
    const rlimit both{value, value};
    if (::setrlimit(what, &both) != 0) {
        throw_errno(errno, "setrlimit");
    }
}

/// Memory, its pipe and its own end: nothing else is left.
void give_up_everything() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    limit(RLIMIT_AS, kMostMemory);  // sanitizers reserve far more than they use
#endif
    limit(RLIMIT_CPU, static_cast<rlim_t>(kLongest.count()));
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 0);
    if (::prctl(PR_SET_DUMPABLE, 0) != 0 || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        throw_errno(errno, "prctl");
    }
    const std::unique_ptr<void, decltype(&::seccomp_release)> filter(
        ::seccomp_init(SCMP_ACT_KILL_PROCESS), &::seccomp_release);
    if (filter == nullptr) {
        throw std::runtime_error("seccomp_init failed");
    }
    constexpr std::array kAllowed = {SCMP_SYS(munmap),     SCMP_SYS(mremap),      SCMP_SYS(brk),
                                     SCMP_SYS(madvise),    SCMP_SYS(futex),       SCMP_SYS(exit),
                                     SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn)};
    int failed = 0;
    for (const int call : kAllowed) {
        failed |= ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call, 0);
    }
    failed |= ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
                                 SCMP_A0(SCMP_CMP_EQ, STDOUT_FILENO));
    failed |= ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                 SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS));
    failed |= ::seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                 SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (failed != 0 || ::seccomp_load(filter.get()) != 0) {
        throw std::runtime_error("the process cannot give up its rights");
    }
}

std::span<const std::byte> map(int fd) {
    struct stat about {};
    if (::fstat(fd, &about) != 0) {
        throw_errno(errno, "fstat");
    }
    if (about.st_size == 0) {
        return {};
    }
    const auto size = static_cast<std::size_t>(about.st_size);
    void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) {
        throw_errno(errno, "mmap");
    }
    return {static_cast<const std::byte*>(mapped), size};
}

void write_all(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, bytes.data(), bytes.size());
        if (written <= 0) {
            throw_errno(errno, "write");
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

// ---- in the service

struct Pipe {
    UniqueFd read;
    UniqueFd write;

    Pipe() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
            throw_errno(errno, "pipe2");
        }
        read = UniqueFd(ends[0]);
        write = UniqueFd(ends[1]);
    }
};

/// A started process, which does not outlive it.
class Child {
   public:
    Child(int file_fd, int manifest_fd, int report_fd) {
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        // Away from where they go first: they may lie there, crosswise.
        const UniqueFd file(::fcntl(file_fd, F_DUPFD_CLOEXEC, 16));
        const UniqueFd manifest(::fcntl(manifest_fd, F_DUPFD_CLOEXEC, 16));
        const UniqueFd report(::fcntl(report_fd, F_DUPFD_CLOEXEC, 16));
        posix_spawn_file_actions_adddup2(&actions, report.get(), STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, file.get(), kFileFd);
        posix_spawn_file_actions_adddup2(&actions, manifest.get(), kManifestFd);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        sigset_t none;
        sigemptyset(&none);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        std::string name = "m4d";
        std::string argument = kCheckArgument;
        const std::array<char*, 3> arguments = {name.data(), argument.data(), nullptr};
        const std::array<char*, 1> environment = {nullptr};
        const int error = ::posix_spawn(&pid_, "/proc/self/exe", &actions, &attributes,
                                        arguments.data(), environment.data());
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        if (error != 0) {
            throw_errno(error, "an adapter's check cannot be started");
        }
    }
    ~Child() { (void)end(); }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    void kill() const { (void)::kill(pid_, SIGKILL); }

    /// Its exit, as waitpid() tells it.
    int end() {
        if (pid_ > 0) {
            while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
            }
            pid_ = -1;
        }
        return status_;
    }

   private:
    pid_t pid_ = -1;
    int status_ = 0;
};

/// What comes before the end, or nothing where it is too much or too late.
std::vector<std::byte> read_report(int fd) {
    std::vector<std::byte> bytes(sizeof(std::uint32_t) + protocol::kMaxMessageBytes +
                                 firmware::kMaxPairs * sizeof(PlacedPair) + 1);
    std::size_t size = 0;
    const Clock::time_point late = Clock::now() + kLongest;
    while (size < bytes.size()) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(late - Clock::now());
        pollfd ready{fd, POLLIN, 0};
        const int polled =
            ::poll(&ready, 1, static_cast<int>(std::max<std::int64_t>(0, left.count())));
        if (polled == 0) {
            return {};
        }
        const ssize_t got = polled < 0 ? -1 : ::read(fd, bytes.data() + size, bytes.size() - size);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            bytes.resize(size);
            return bytes;
        }
        size += static_cast<std::size_t>(got);
    }
    return {};
}

Verdict refusal(const File& file, const std::string& why) {
    Verdict verdict;
    verdict.report.bytes = file.bytes().size();
    verdict.report.digest = firmware::sha256(file.bytes());
    verdict.report.reason = why;
    return verdict;
}

/// Throws std::runtime_error where it is none.
Verdict parse_verdict(std::span<const std::byte> bytes) {
    std::uint32_t size = 0;
    if (bytes.size() < sizeof size) {
        throw std::runtime_error("the check gave no report");
    }
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes = bytes.subspan(sizeof size);
    if (size > bytes.size() || (bytes.size() - size) % sizeof(PlacedPair) != 0) {
        throw std::runtime_error("the check gave no whole report");
    }
    Verdict verdict{parse_report(bytes.first(size)), {}};
    const auto pairs = bytes.subspan(size);
    verdict.pairs.resize(pairs.size() / sizeof(PlacedPair));
    if (!pairs.empty()) {
        std::memcpy(verdict.pairs.data(), pairs.data(), pairs.size());
    }
    return verdict;
}

}  // namespace

int check_main() {
    try {
        const auto file = map(kFileFd);
        const auto manifest = map(kManifestFd);
        // Libraries read their settings when they are first used.
        (void)firmware::sha256({});
        const firmware::Image image = firmware::Image::parse(manifest, "manifest");
        if (::close_range(kFileFd, ~0U, 0) != 0) {
            throw_errno(errno, "close_range");
        }
        give_up_everything();
        const Verdict verdict = check(file, image);
        const protocol::Packet packet = report_packet(1, verdict.report);
        const auto size = static_cast<std::uint32_t>(packet.bytes.size());
        write_all(std::as_bytes(std::span(&size, 1)));
        write_all(packet.bytes);
        write_all(std::as_bytes(std::span(verdict.pairs)));
        ::_exit(0);
    } catch (const std::exception& error) {
        (void)std::fprintf(stderr, "m4d: check of an adapter: %s\n", error.what());
        return 1;
    }
}

Admission::Admission(std::span<const std::byte> manifest) : manifest_(manifest) {}

Verdict Admission::check(const File& file) const {
    Pipe pipe;
    Child child(file.fd(), manifest_.fd(), pipe.write.get());
    pipe.write.reset();
    const std::vector<std::byte> bytes = read_report(pipe.read.get());
    if (bytes.empty()) {
        child.kill();
    }
    const int status = child.end();
    if (WIFSIGNALED(status)) {
        return refusal(file, bytes.empty() ? "its check took too long or did what it may not"
                                           : "its check did what it may not");
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return refusal(file, "its check failed");
    }
    Verdict verdict = parse_verdict(bytes);
    // Of the very bytes that are kept, whatever the process says.
    if (verdict.report.digest != firmware::sha256(file.bytes())) {
        return refusal(file, "its check is of other bytes");
    }
    return verdict;
}

}  // namespace m4::adapters
