// SPDX-License-Identifier: MIT
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "sched/backend.hpp"
#include "sched/completion.hpp"
#include "sched/core.hpp"
#include "sched/limits.hpp"
#include "sched/snapshot.hpp"

namespace m4::sched {

/// Owns the engine thread: it makes the backend, runs one step after another
/// over whatever requests there are, and destroys the backend. Requests come
/// in through a mailbox, outcomes leave through a CompletionQueue; both sides
/// own what they hold, nothing is shared.
///
/// The public calls are for one thread (the loop's) and never wait for a step.
class Scheduler {
   public:
    using BackendFactory = std::function<std::unique_ptr<Backend>()>;

    /// Runs `factory` in the engine thread and waits for it; throws what it
    /// throws. `text` and `completions` must outlive the scheduler.
    Scheduler(const BackendFactory& factory, const TextModel& text, const Limits& limits,
              CompletionQueue& completions);
    /// Ends the thread after the step in hand; what still runs is dropped.
    ~Scheduler();
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    void client_joined(Client client);
    void client_left(ClientId client);
    void submit(ClientId client, RequestId request, Request what);
    void cancel(ClientId client, RequestId request);
    void cancel_all();
    /// New sessions and requests are refused from now on.
    void refuse_new();
    /// The image was taken back: see Core::revoke.
    void revoke(std::string message);
    /// Give back what completions of this client were charged.
    void delivered(ClientId client, std::uint64_t bytes);

    [[nodiscard]] Snapshot snapshot() const;
    /// How long the step in hand has been running; 0 between steps.
    [[nodiscard]] std::chrono::milliseconds step_age() const;

   private:
    struct Joined {
        Client client;
    };
    struct Left {
        ClientId client;
    };
    struct Submitted {
        ClientId client;
        RequestId request;
        Request what;
        Clock::time_point arrived;
    };
    struct Cancelled {
        ClientId client;
        RequestId request;
    };
    struct CancelledAll {};
    struct Refusing {};
    struct Revoked {
        std::string message;
    };
    struct Delivered {
        ClientId client;
        std::uint64_t bytes;
    };
    using Letter = std::variant<Joined, Left, Submitted, Cancelled, CancelledAll, Refusing, Revoked,
                                Delivered>;

    void post(Letter letter);
    void run(const BackendFactory& factory, const TextModel& text, const Limits& limits,
             std::promise<void>& ready);
    void loop(Core& core);
    static void open(Core& core, Letter& letter);
    void publish(Core& core);

    CompletionQueue* completions_;
    mutable std::mutex mutex_;
    std::condition_variable posted_;
    std::vector<Letter> mailbox_;
    Snapshot snapshot_;
    Clock::time_point step_began_;  ///< epoch: between steps
    bool stopping_ = false;
    std::thread thread_;  ///< last: starts when the rest is there
};

}  // namespace m4::sched
