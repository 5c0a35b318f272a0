// SPDX-License-Identifier: MIT
#include "sched/scheduler.hpp"

#include <pthread.h>

#include <exception>
#include <utility>

#include "observe/log.hpp"

namespace m4::sched {
namespace {

/// Without a step for so long, the engine warms up.
constexpr std::chrono::milliseconds kQuiet{1000};

}  // namespace

Scheduler::Scheduler(const BackendFactory& factory, const TextModel& text, const Limits& limits,
                     CompletionQueue& completions)
    : completions_(&completions) {
    std::promise<void> ready;
    auto made = ready.get_future();
    thread_ = std::thread([this, factory, &text, limits, ready = std::move(ready)]() mutable {
        run(factory, text, limits, ready);
    });
    try {
        made.get();
    } catch (...) {
        thread_.join();
        throw;
    }
}

Scheduler::~Scheduler() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    posted_.notify_one();
    thread_.join();
}

void Scheduler::client_joined(Client client) {
    post(Joined{std::move(client)});
}

void Scheduler::client_left(ClientId client) {
    post(Left{client});
}

void Scheduler::submit(ClientId client, RequestId request, Request what) {
    post(Submitted{client, request, std::move(what), Clock::now()});
}

void Scheduler::cancel(ClientId client, RequestId request) {
    post(Cancelled{client, request});
}

void Scheduler::cancel_all() {
    post(CancelledAll{});
}

void Scheduler::refuse_new() {
    post(Refusing{});
}

void Scheduler::revoke(std::string message) {
    post(Revoked{std::move(message)});
}

void Scheduler::delivered(ClientId client, std::uint64_t bytes) {
    if (bytes > 0) {
        post(Delivered{client, bytes});
    }
}

Snapshot Scheduler::snapshot() const {
    const std::lock_guard lock(mutex_);
    return snapshot_;
}

std::chrono::milliseconds Scheduler::step_age() const {
    const std::lock_guard lock(mutex_);
    if (step_began_ == Clock::time_point{}) {
        return std::chrono::milliseconds(0);
    }
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - step_began_);
}

void Scheduler::post(Letter letter) {
    {
        const std::lock_guard lock(mutex_);
        mailbox_.push_back(std::move(letter));
    }
    posted_.notify_one();
}

void Scheduler::run(const BackendFactory& factory, const TextModel& text, const Limits& limits,
                    std::promise<void>& ready) {
    pthread_setname_np(pthread_self(), "m4-engine");
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Core> core;
    try {
        backend = factory();
        core = std::make_unique<Core>(*backend, text, limits);
        publish(*core);
    } catch (...) {
        core.reset();
        backend.reset();
        ready.set_exception(std::current_exception());
        return;
    }
    ready.set_value();
    try {
        loop(*core);
    } catch (const std::exception& error) {
        // Nothing below is known to be whole any more; the service restarts.
        observe::log(observe::Level::error, "the engine thread failed: %s", error.what());
        std::vector<Completion> last;
        last.push_back({0, 0, DeviceLost{error.what()}, 0});
        completions_->push(last);
    }
    // Sequences go before the engine that holds them.
    core.reset();
    backend.reset();
}

void Scheduler::loop(Core& core) {
    bool idle = true;
    bool warming = true;  // worth a try: a letter may have freed what it needs
    Clock::time_point worked = Clock::now();
    std::vector<Letter> letters;
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            step_began_ = {};
            const auto called = [&] { return stopping_ || !mailbox_.empty(); };
            if (idle && warming) {
                (void)posted_.wait_until(lock, worked + kQuiet, called);
            } else if (idle) {
                posted_.wait(lock, called);
            }
            if (stopping_) {
                return;
            }
            letters.swap(mailbox_);
        }
        for (Letter& letter : letters) {
            open(core, letter);
        }
        if (!letters.empty()) {
            warming = true;
            worked = Clock::now();
            letters.clear();
        }
        // Answers need not wait for the step.
        publish(core);
        {
            const std::lock_guard lock(mutex_);
            step_began_ = Clock::now();
        }
        idle = !core.step();
        if (!idle) {
            worked = Clock::now();
        } else if (warming && Clock::now() >= worked + kQuiet) {
            warming = core.warm_up();
        }
        publish(core);
    }
}

void Scheduler::open(Core& core, Letter& letter) {
    struct Opener {
        Core& core;
        void operator()(Joined& l) const { core.client_joined(std::move(l.client)); }
        void operator()(Left& l) const { core.client_left(l.client); }
        void operator()(Submitted& l) const {
            core.submit(l.client, l.request, std::move(l.what), l.arrived);
        }
        void operator()(Cancelled& l) const { core.cancel(l.client, l.request); }
        void operator()(CancelledAll& /*l*/) const { core.cancel_all(); }
        void operator()(Refusing& /*l*/) const { core.refuse_new(); }
        void operator()(Revoked& l) const { core.revoke(l.message); }
        void operator()(Delivered& l) const { core.delivered(l.client, l.bytes); }
    };
    std::visit(Opener{core}, letter);
}

/// The figures first: who gets an outcome finds them up to date.
void Scheduler::publish(Core& core) {
    const Snapshot now = core.snapshot();
    {
        const std::lock_guard lock(mutex_);
        snapshot_ = now;
    }
    completions_->push(core.completions());
}

}  // namespace m4::sched
