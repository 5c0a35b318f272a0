// SPDX-License-Identifier: MIT
#include "trust/sigbus.hpp"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <system_error>

namespace m4::trust::sigbus {

struct Range {
    std::atomic<std::uintptr_t> begin{0};  ///< 0: this place is free
    std::atomic<std::size_t> size{0};
    std::atomic<bool> lost{false};
};

namespace {

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free &&
                  std::atomic<bool>::is_always_lock_free,
              "a signal handler may not wait for a lock");

std::array<Range, kRangesMax> ranges;
std::mutex registering;  // never taken by the handler
bool installed = false;
struct sigaction previous {};

/// Zero pages in place of all of it, for every thread at once. The system call
/// itself: mmap(3) is not on the list of what a handler may call, and
/// sanitizers replace it.
bool put_zeros(std::uintptr_t begin, std::size_t size) {
    const long mapped = ::syscall(SYS_mmap, begin, size, PROT_READ,
                                  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
    return static_cast<std::uintptr_t>(mapped) == begin;
}

/// Async-signal-safe: atomics, system calls, nothing else.
void on_sigbus(int number, siginfo_t* info, void* /*context*/) {
    const int saved_errno = errno;
    const bool fault = info->si_code > 0;  // not somebody's kill(2)
    if (fault) {
        const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
        for (Range& range : ranges) {
            const std::uintptr_t begin = range.begin.load(std::memory_order_acquire);
            const std::size_t size = range.size.load(std::memory_order_relaxed);
            if (begin == 0 || address - begin >= size) {
                continue;
            }
            range.lost.store(true, std::memory_order_seq_cst);  // before the first zero
            if (put_zeros(begin, size)) {
                errno = saved_errno;
                return;  // to the very instruction, which now reads zeros
            }
        }
    }
    // Not ours: as if we had never been here. A fault comes again by itself.
    (void)::sigaction(SIGBUS, &previous, nullptr);
    if (!fault) {
        (void)::raise(number);
    }
    errno = saved_errno;
}

void install() {
    if (installed) {
        return;
    }
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigfillset(&action.sa_mask);
    if (::sigaction(SIGBUS, &action, &previous) != 0) {
        throw std::system_error(errno, std::generic_category(), "sigaction(SIGBUS)");
    }
    installed = true;
}

}  // namespace

Range* watch(const void* begin, std::size_t size) {
    const std::lock_guard lock(registering);
    install();
    for (Range& range : ranges) {
        if (range.begin.load(std::memory_order_relaxed) == 0) {
            range.lost.store(false, std::memory_order_relaxed);
            range.size.store(size, std::memory_order_relaxed);
            range.begin.store(reinterpret_cast<std::uintptr_t>(begin), std::memory_order_release);
            return &range;
        }
    }
    throw std::runtime_error("more than " + std::to_string(kRangesMax) +
                             " images are mapped at once");
}

void unwatch(Range* range) noexcept {
    const std::lock_guard lock(registering);
    range->begin.store(0, std::memory_order_release);
}

const std::atomic<bool>& lost(const Range* range) noexcept {
    return range->lost;
}

}  // namespace m4::trust::sigbus

/// The C library's, but SIGBUS stays open in every thread. Mesa (and others)
/// start their threads with all signals blocked, and a memory fault that is
/// blocked ends the process: no handler is asked. m4d exports this symbol, so
/// that libraries find it before the C library's.
extern "C" int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
    using Function = int (*)(int, const sigset_t*, sigset_t*);
    static const auto real = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "pthread_sigmask"));
    if (set == nullptr || how == SIG_UNBLOCK) {
        return real(how, set, old);
    }
    sigset_t open = *set;
    sigdelset(&open, SIGBUS);
    return real(how, &open, old);
}
