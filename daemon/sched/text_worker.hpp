// SPDX-License-Identifier: MIT
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "sched/backend.hpp"
#include "sched/completion.hpp"

namespace m4::sched {

/// A thread for texts so long that tokenising them in the loop would keep the
/// other clients waiting. First come, first served; Tokens or Text (or a
/// Failure) comes back through the completion queue.
class TextWorker {
   public:
    /// Both must outlive it.
    TextWorker(const TextModel& text, CompletionQueue& completions);
    /// Ends after the job in hand; others are dropped.
    ~TextWorker();
    TextWorker(const TextWorker&) = delete;
    TextWorker& operator=(const TextWorker&) = delete;

    void encode(ClientId client, RequestId request, std::string text, bool add_special);
    void decode(ClientId client, RequestId request, std::vector<std::uint32_t> ids);
    /// Jobs of this client that have not begun are dropped.
    void forget(ClientId client);

   private:
    struct Encode {
        std::string text;
        bool add_special;
    };
    struct Decode {
        std::vector<std::uint32_t> ids;
    };
    struct Job {
        ClientId client;
        RequestId request;
        std::variant<Encode, Decode> what;
    };

    void post(Job job);
    void run();
    [[nodiscard]] Outcome perform(const Job& job) const;

    const TextModel* text_;
    CompletionQueue* completions_;
    std::mutex mutex_;
    std::condition_variable posted_;
    std::deque<Job> jobs_;
    bool stopping_ = false;
    std::thread thread_;  ///< last: starts when the rest is there
};

}  // namespace m4::sched
