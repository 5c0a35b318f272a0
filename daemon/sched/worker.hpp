// SPDX-License-Identifier: MIT
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "sched/completion.hpp"

namespace m4::sched {

/// A thread for what would keep other clients waiting in the loop: long texts, media.
/// First come, first served; what a job returns comes back through the completion
/// queue, and what it throws as a Failure.
class Worker {
   public:
    using Job = std::function<Outcome()>;

    /// `name`: of the thread, at most 15 bytes. `completions` must outlive it.
    Worker(std::string name, CompletionQueue& completions);
    /// Ends after the job in hand; others are dropped.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    void post(ClientId client, RequestId request, Job job);
    /// Jobs of this client that have not begun are dropped.
    void forget(ClientId client);

   private:
    struct Posted {
        ClientId client = 0;
        RequestId request = 0;
        Job job;
    };

    void run();

    std::string name_;
    CompletionQueue* completions_;
    std::mutex mutex_;
    std::condition_variable posted_;
    std::deque<Posted> jobs_;
    bool stopping_ = false;
    std::thread thread_;  ///< last: starts when the rest is there
};

}  // namespace m4::sched
