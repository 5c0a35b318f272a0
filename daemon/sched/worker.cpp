// SPDX-License-Identifier: MIT
#include "sched/worker.hpp"

#include <pthread.h>

#include <exception>
#include <utility>

namespace m4::sched {
namespace {

Outcome perform(const Worker::Job& job) {
    try {
        return job();
    } catch (const std::bad_alloc&) {
        return Failure{M4_E_NO_MEMORY, "the service is out of memory", 0};
    } catch (const std::exception& error) {
        return Failure{M4_E_INTERNAL, error.what(), 0};
    }
}

}  // namespace

Worker::Worker(std::string name, CompletionQueue& completions)
    : name_(std::move(name)), completions_(&completions), thread_([this] { run(); }) {}

Worker::~Worker() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    posted_.notify_one();
    thread_.join();
}

void Worker::post(ClientId client, RequestId request, Job job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back({client, request, std::move(job)});
    }
    posted_.notify_one();
}

void Worker::forget(ClientId client) {
    const std::lock_guard lock(mutex_);
    std::erase_if(jobs_, [&](const Posted& posted) { return posted.client == client; });
}

void Worker::run() {
    pthread_setname_np(pthread_self(), name_.c_str());
    for (;;) {
        Posted next;
        {
            std::unique_lock lock(mutex_);
            posted_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
            if (stopping_) {
                return;
            }
            next = std::move(jobs_.front());
            jobs_.pop_front();
        }
        std::vector<Completion> done;
        done.push_back({next.client, next.request, perform(next.job), 0});
        next.job = nullptr;  // what it held goes before its answer is read
        completions_->push(done);
    }
}

}  // namespace m4::sched
