// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sched/backend.hpp"
#include "sched/batch.hpp"
#include "sched/benchmark.hpp"
#include "sched/completion.hpp"
#include "sched/encoding.hpp"
#include "sched/limits.hpp"
#include "sched/snapshot.hpp"
#include "sched/transcribing.hpp"
#include "sched/work.hpp"

namespace m4::sched {

/// The scheduler without its thread: clients, sessions and running requests,
/// advanced one step at a time. Everything happens in the caller's thread.
///
/// Every submitted request ends with exactly one last outcome (Failure,
/// Acknowledged, SessionState, SessionTable, Snapshot, GenerateFinished,
/// ScoreFinished, BenchFigures, Encoded or TranscribeFinished), unless its client leaves
/// before.
class Core {
   public:
    /// All must outlive it. Throws std::invalid_argument for a backend of
    /// fewer than kMinStepRows rows.
    Core(Backend& backend, const TextModel& text, const Limits& limits);

    void client_joined(Client client);
    /// Its sessions and requests are gone on return, without outcomes.
    void client_left(ClientId client);
    void submit(ClientId client, RequestId request, Request what, Clock::time_point arrived);
    /// No such request: nothing happens.
    void cancel(ClientId client, RequestId request);
    void cancel_all();
    /// From now on new requests are refused.
    void refuse_new() { refusing_ = true; }
    /// The image was taken back: what runs and what comes fails with VERIFY.
    void revoke(const std::string& message);
    /// The client has read replies that were charged so much.
    void delivered(ClientId client, std::uint64_t bytes);

    /// Run one step. False: nothing can run now.
    bool step();
    /// While nothing runs. False: there is nothing left to prepare.
    bool warm_up();

    /// What came about since it was last emptied; the caller takes it.
    [[nodiscard]] std::vector<Completion>& completions() { return completions_; }
    [[nodiscard]] Snapshot snapshot() const;

   private:
    struct ClientState {
        Client who;
        std::uint64_t unread_bytes = 0;
        std::uint64_t prefill_turn = 0;
        std::uint64_t decode_turn = 0;
    };
    using Admission = std::optional<Failure>;

    void handle(const ClientState& client, RequestId request, CreateSession what);
    void handle(const ClientState& client, RequestId request, CloneSession what);
    void handle(const ClientState& client, RequestId request, AppendTokens what);
    void handle(const ClientState& client, RequestId request, TruncateSession what);
    void handle(const ClientState& client, RequestId request, InspectSession what);
    void handle(const ClientState& client, RequestId request, CloseSession what);
    void handle(const ClientState& client, RequestId request, ListSessions what);
    void handle(const ClientState& client, RequestId request, ReadFigures what);
    void handle(const ClientState& client, RequestId request, Generate what);
    void handle(const ClientState& client, RequestId request, Score what);
    void handle(const ClientState& client, RequestId request, RunBench what);
    void handle(const ClientState& client, RequestId request, Encode what);
    void handle(const ClientState& client, RequestId request, Transcribe what);

    [[nodiscard]] Admission admit_session(const ClientState& client) const;
    [[nodiscard]] Admission admit_work(const ClientState& client) const;
    [[nodiscard]] Admission admit_bench(const ClientState& client, const RunBench& what) const;
    [[nodiscard]] Admission admit_encoding(const ClientState& client,
                                           const std::vector<float>& features) const;
    [[nodiscard]] Admission admit_rows(const Session& session, std::uint32_t rows) const;
    [[nodiscard]] Admission check(const Generate& what) const;
    [[nodiscard]] Admission check_ids(const std::vector<std::uint32_t>& ids) const;
    /// Null after a NOT_FOUND or BUSY outcome.
    [[nodiscard]] Session* idle_session(const ClientState& client, RequestId request,
                                        SessionId session);
    [[nodiscard]] Session* find_session(const ClientState& client, SessionId session);
    [[nodiscard]] uid_t uid_of(ClientId client) const;
    [[nodiscard]] std::uint32_t retry_after_ms() const;

    void emit(ClientId client, RequestId request, Outcome outcome);
    void fail(ClientId client, RequestId request, int code, std::string message,
              std::uint32_t retry_ms = 0);
    [[nodiscard]] std::vector<Share> plan();
    bool free_pages(std::uint32_t wanted, const Work& taker);
    [[nodiscard]] std::uint32_t rows_with_pages(Work& work, std::uint32_t& promised);
    bool refuse_for_pages();
    void add_work(std::unique_ptr<Work> work);
    void add_session(const ClientState& client, RequestId request, Session session);
    bool work_step();
    bool bench_slice();
    void end_bench(Outcome outcome);
    bool encode_slice();
    void finish_encodings();
    void append_rows(Encoding& encoding);
    void end_encoding(Encoding& encoding, Outcome outcome);
    [[nodiscard]] bool can_run(const Transcribing& one) const;
    bool transcribe_slice();
    void cancel_transcribings(const std::function<bool(const Transcribing&)>& which);
    void cancel_encodings(const std::function<bool(const Encoding&)>& which);
    /// Of a choice that is not the bare base. Throws std::invalid_argument where the
    /// engine cannot have it.
    [[nodiscard]] std::shared_ptr<LoadedAdapter> load_adapter(const AdapterChoice& choice);
    /// Null for the bare base; in the device's memory where there is a gap. False after
    /// the outcome that says why it cannot be had.
    [[nodiscard]] bool find_adapter(const ClientState& client, RequestId request,
                                    const AdapterChoice& choice,
                                    std::shared_ptr<LoadedAdapter>& found);
    void keep_to_adapter_pool(std::vector<Share>& shares) const;
    [[nodiscard]] std::vector<AdapterFigures> adapter_figures() const;
    void run(const std::vector<Share>& shares);
    [[nodiscard]] std::uint32_t passes_for(const std::vector<Share>& shares) const;
    void commit(const std::vector<Share>& shares, std::span<const engine::Chunk> chunks,
                std::uint32_t passes, std::span<const float> logits);
    void lose_engine(int code, const std::string& message);
    void fail_all(int code, const std::string& message);
    /// Its client has so much to read that nothing more is computed for it.
    [[nodiscard]] bool paused(ClientId client) const;
    void drop_finished();

    Backend* backend_;
    const TextModel* text_;
    Limits limits_;
    std::map<ClientId, ClientState> clients_;
    // Adapters outlive the sessions that name them only here, for who comes next.
    std::map<AdapterDigest, std::weak_ptr<LoadedAdapter>> adapters_;
    std::deque<std::shared_ptr<LoadedAdapter>> recent_adapters_;  ///< latest first
    std::map<SessionId, Session> sessions_;
    // After sessions_: a generation lets go of its session when destroyed.
    std::vector<std::unique_ptr<Work>> works_;                  ///< in order of arrival
    std::unique_ptr<Benchmark> bench_;                          ///< null: none runs
    std::vector<std::unique_ptr<Encoding>> encodings_;          ///< in order of arrival
    std::vector<std::unique_ptr<Transcribing>> transcribings_;  ///< in order of arrival
    std::uint64_t slice_number_ = 0;
    std::uint64_t inputs_encoded_ = 0;
    std::uint64_t inputs_reused_ = 0;
    std::vector<Completion> completions_;
    SessionId next_session_ = 1;
    std::uint64_t last_rank_ = 0;
    std::uint64_t step_number_ = 0;
    std::uint64_t tokens_prompt_ = 0;
    std::uint64_t tokens_generated_ = 0;
    Clock::time_point arrived_;  ///< of the request in hand
    double step_ms_ = 10;        ///< moving average
    bool refusing_ = false;
    std::optional<Failure> lost_;  ///< why nothing runs any more
};

}  // namespace m4::sched
