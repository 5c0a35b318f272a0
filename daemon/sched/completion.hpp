// SPDX-License-Identifier: MIT
#pragma once

#include <m4client.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "engine/engine.hpp"
#include "sched/request.hpp"
#include "sched/snapshot.hpp"

/// What comes back from the engine thread and the workers.
namespace m4::sched {

/// The request failed or was refused; its last completion.
struct Failure {
    int code = M4_E_INTERNAL;  ///< enum m4_error
    std::string message;
    std::uint32_t retry_after_ms = 0;
};

struct Acknowledged {};

struct SessionState {
    SessionId session = 0;
    std::uint32_t position = 0;
    std::uint32_t capacity = 0;
};

struct SessionRow {
    SessionId session = 0;
    uid_t uid = 0;
    pid_t pid = 0;
    std::uint32_t position = 0;
    std::uint32_t capacity = 0;
    std::uint64_t tokens_generated = 0;
    bool active = false;
    std::string client_name;
};

struct SessionTable {
    std::vector<SessionRow> rows;
};

/// A piece of a running generate request. `ids` are those generated since the
/// previous piece; `text` is whole characters.
struct Piece {
    std::vector<std::uint32_t> ids;
    std::string text;
};

struct Usage {
    std::uint32_t prompt_tokens = 0;
    std::uint32_t cached_tokens = 0;
    std::uint32_t output_tokens = 0;
    std::uint64_t queue_us = 0;
    std::uint64_t ttft_us = 0;
    std::uint64_t total_us = 0;
};

struct GenerateFinished {
    m4_finish finish = M4_FINISH_NONE;
    Piece rest;
    Usage usage;
};

/// Rows [first, first + token_logprobs.size()) of a score request.
struct ScoreRows {
    std::uint32_t first = 0;
    std::uint32_t top_n = 0;
    std::vector<float> token_logprobs;
    std::vector<std::uint32_t> top_ids;  ///< rows x top_n
    std::vector<float> top_logprobs;
};

struct ScoreFinished {
    Usage usage;
};

/// How far a bench is; its figures come last.
struct BenchProgress {
    std::uint32_t percent = 0;
};

/// What a bench measured. Times are medians, in microseconds.
struct BenchFigures {
    std::uint32_t context = 0;
    std::uint32_t tokens = 0;      ///< decoded and timed
    std::uint32_t passes = 0;      ///< tokens of a submission
    double token_us = 0;           ///< of a decoded token
    std::uint32_t prefill = 0;     ///< tokens
    double prefill_us = 0;         ///< of all of them
    std::uint64_t step_bytes = 0;  ///< weights that a decoded token reads
    std::uint64_t copy_bytes = 0;  ///< read and written; 0: no memory to copy
    double copy_us = 0;
    engine::Profile profile;  ///< of a decoded token
    bool cut_short = false;   ///< fewer samples than wanted: its time was over
};

/// What a part made of an encode request's inputs, one behind the other.
struct Encoded {
    std::string part;
    std::uint32_t inputs = 0;
    std::vector<float> values;
};

/// A segment of a transcript, from the recording's begin on.
struct TranscriptPart {
    std::uint64_t start_ms = 0;
    std::uint64_t end_ms = 0;
    std::vector<std::uint32_t> ids;  ///< without times
    std::string text;                ///< empty: the part has no tokeniser
};

struct TranscribeFinished {
    std::string part;
    std::string language;  ///< of the recording, as the part calls it; empty: it knows one
    std::uint32_t windows = 0;
    Usage usage;
};

/// From the worker for media: a request for the scheduler.
struct Prepared {
    Request what;
};

/// From the worker for adapters: whoever keeps them takes it from there.
struct AdapterChecked {
    std::shared_ptr<const void> result;  ///< what it put there
};

/// From the worker for texts.
struct Tokens {
    std::vector<std::uint32_t> ids;
};

struct Text {
    std::string text;
};

/// The device is gone: nothing will be computed any more (client is 0).
struct DeviceLost {
    std::string message;
};

/// The image is gone: nothing will be computed any more, but what needs no
/// computing is answered (client is 0).
struct ImageRevoked {
    std::string message;
};

using Outcome = std::variant<Failure, Acknowledged, SessionState, SessionTable, Snapshot, Piece,
                             GenerateFinished, ScoreRows, ScoreFinished, BenchProgress,
                             BenchFigures, Encoded, TranscriptPart, TranscribeFinished, Prepared,
                             AdapterChecked, Tokens, Text, DeviceLost, ImageRevoked>;

struct Completion {
    ClientId client = 0;
    RequestId request = 0;
    Outcome outcome;
    /// Charged to the client until Scheduler::delivered() gives it back.
    std::uint64_t charged_bytes = 0;
};

/// Many producers, one consumer, which polls fd().
class CompletionQueue {
   public:
    CompletionQueue();  ///< throws std::system_error
    ~CompletionQueue();
    CompletionQueue(const CompletionQueue&) = delete;
    CompletionQueue& operator=(const CompletionQueue&) = delete;

    /// An eventfd, readable while completions wait. Owned by the queue.
    [[nodiscard]] int fd() const { return fd_; }
    /// In order; moves `completions` out and leaves it empty.
    void push(std::vector<Completion>& completions);
    /// Everything that waits; fd() is then quiet.
    [[nodiscard]] std::vector<Completion> drain();

   private:
    int fd_;
    std::mutex mutex_;
    std::vector<Completion> waiting_;
};

}  // namespace m4::sched
