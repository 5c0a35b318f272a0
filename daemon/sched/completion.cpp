// SPDX-License-Identifier: MIT
#include "sched/completion.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <system_error>
#include <utility>

namespace m4::sched {

CompletionQueue::CompletionQueue() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (fd_ < 0) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
}

CompletionQueue::~CompletionQueue() {
    close(fd_);
}

void CompletionQueue::push(std::vector<Completion>& completions) {
    if (completions.empty()) {
        return;
    }
    {
        const std::lock_guard lock(mutex_);
        waiting_.insert(waiting_.end(), std::make_move_iterator(completions.begin()),
                        std::make_move_iterator(completions.end()));
    }
    completions.clear();
    // Cannot fail: the counter is far from its end and the reader resets it.
    (void)eventfd_write(fd_, 1);
}

std::vector<Completion> CompletionQueue::drain() {
    // Quieten first: what is pushed after this rings again.
    eventfd_t ignored = 0;
    (void)eventfd_read(fd_, &ignored);
    const std::lock_guard lock(mutex_);
    return std::exchange(waiting_, {});
}

}  // namespace m4::sched
