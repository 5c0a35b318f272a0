// SPDX-License-Identifier: MIT
#include "sched/text_worker.hpp"

#include <pthread.h>

#include <exception>
#include <utility>

namespace m4::sched {

TextWorker::TextWorker(const TextModel& text, CompletionQueue& completions)
    : text_(&text), completions_(&completions), thread_([this] { run(); }) {}

TextWorker::~TextWorker() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    posted_.notify_one();
    thread_.join();
}

void TextWorker::encode(ClientId client, RequestId request, std::string text, bool add_special) {
    post({client, request, Encode{std::move(text), add_special}});
}

void TextWorker::decode(ClientId client, RequestId request, std::vector<std::uint32_t> ids) {
    post({client, request, Decode{std::move(ids)}});
}

void TextWorker::forget(ClientId client) {
    const std::lock_guard lock(mutex_);
    std::erase_if(jobs_, [&](const Job& job) { return job.client == client; });
}

void TextWorker::post(Job job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
    }
    posted_.notify_one();
}

void TextWorker::run() {
    pthread_setname_np(pthread_self(), "m4-text");
    for (;;) {
        Job job;
        {
            std::unique_lock lock(mutex_);
            posted_.wait(lock, [&] { return stopping_ || !jobs_.empty(); });
            if (stopping_) {
                return;
            }
            job = std::move(jobs_.front());
            jobs_.pop_front();
        }
        std::vector<Completion> done;
        done.push_back({job.client, job.request, perform(job), 0});
        completions_->push(done);
    }
}

Outcome TextWorker::perform(const Job& job) const {
    try {
        if (const auto* encode = std::get_if<Encode>(&job.what)) {
            return Tokens{text_->encode(encode->text, encode->add_special)};
        }
        return Text{text_->decode(std::get<Decode>(job.what).ids)};
    } catch (const std::exception& error) {
        return Failure{M4_E_INTERNAL, error.what(), 0};
    }
}

}  // namespace m4::sched
