// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapters/store.hpp"
#include "ipc/connection.hpp"
#include "ipc/dispatch.hpp"
#include "ipc/event.hpp"
#include "ipc/limits.hpp"
#include "ipc/listener.hpp"
#include "ipc/reply.hpp"
#include "ipc/service_info.hpp"
#include "sched/embedding_cache.hpp"
#include "sched/parts.hpp"
#include "sched/scheduler.hpp"
#include "sched/worker.hpp"

namespace m4::ipc {

/// Exit code of a service whose device failed or is missing.
inline constexpr int kExitDevice = 4;

/// Serves the clients of one listener: connections in, typed requests to the
/// scheduler, its completions back to where they belong. Loop thread only.
class Server final : private Connection::Owner {
   public:
    /// What the server is made of, all of which outlives it.
    struct Parts {
        sd_event* loop = nullptr;
        sched::Scheduler* scheduler = nullptr;
        sched::CompletionQueue* completions = nullptr;
        const sched::TextModel* text = nullptr;  ///< vocabulary 0: no backbone
        const sched::Parts* parts = nullptr;
        /// Any thread, for as long as it takes; null: no adapters are served.
        std::function<adapters::Verdict(const adapters::File&)> check_adapter;
        const firmware::Image* image = nullptr;  ///< with check_adapter
        ServiceInfo info;
        Limits limits;
        adapters::Quota quota;
        /// The image was found lost; clients are told already.
        std::function<void(const std::string& why)> on_revoked;
    };

    Server(Parts parts, Listener listener);
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server();

    /// Take no one and nothing new, let what runs go on for a moment, cancel
    /// it, then end the loop with `exit_code`.
    void drain(int exit_code);

    /// Another process serves who connects from now on: stop listening, leave
    /// the socket's file to it, go on for those who are here, then end the loop
    /// with 0. After Limits::handover_ms, or at once where the image is lost,
    /// they are sent away with UNAVAILABLE.
    void hand_over();

    /// Neither handed over nor ending.
    [[nodiscard]] bool listening() const { return listener_.has_value(); }
    /// Only while listening().
    [[nodiscard]] Listener& listener() { return *listener_; }
    [[nodiscard]] std::size_t client_count() const { return client_count_; }
    /// Nothing is computed any more: the image is lost.
    [[nodiscard]] bool revoked() const { return revoked_.has_value(); }

   private:
    enum class State : std::uint8_t { serving, handed_over, draining, leaving };
    /// A text or media in a worker; where a text goes from there.
    struct Pending {
        sched::RequestId request = 0;
        std::optional<sched::SessionId> session;
    };
    struct Slot {
        std::unique_ptr<Connection> connection;
        std::optional<Pending> pending;
    };

    // Connection::Owner
    void received(Connection& connection, const wire::Frame& frame, UniqueFd& fd) override;
    void delivered(Connection& connection, std::uint64_t charged_bytes) override;
    void ended(Connection& connection) override;
    void closed(Connection& connection) override;

    void perform(Connection& connection, sched::RequestId request, Greeting& greeting);
    void perform(Connection& connection, sched::RequestId request, AskStatus& ask);
    void perform(Connection& connection, sched::RequestId request, AskModel& ask);
    void perform(Connection& connection, sched::RequestId request, AskParts& ask);
    void perform(Connection& connection, sched::RequestId request, AskLabels& ask);
    void perform(Connection& connection, sched::RequestId request, EncodeText& encode);
    void perform(Connection& connection, sched::RequestId request, EncodeMedia& encode);
    void perform(Connection& connection, sched::RequestId request, TranscribeMedia& transcribe);
    void perform(Connection& connection, sched::RequestId request, AddAdapter& add);
    void perform(Connection& connection, sched::RequestId request, ListAdapters& list);
    void perform(Connection& connection, sched::RequestId request, RemoveAdapter& remove);
    void perform(Connection& connection, sched::RequestId request, PublishAdapter& publish);
    void perform(Connection& connection, sched::RequestId request, CollectAdapters& collect);
    void perform(Connection& connection, sched::RequestId request, DecodeIds& decode);
    void perform(Connection& connection, sched::RequestId request, sched::Request& typed);
    void perform(Connection& connection, sched::RequestId request, Cancel& cancel);
    void perform(Connection& connection, sched::RequestId request, sched::Failure& failure);
    void perform(Connection& connection, sched::RequestId request, Violation& violation);

    void accept_all();
    void listen_again();
    void deliver_completions();
    void deliver(sched::Completion& completion);
    void mark_revoked(const std::string& why);
    void resume(Slot& slot, sched::Completion& completion);
    void send_outcome(Connection& connection, sched::RequestId request,
                      const sched::Outcome& outcome, std::uint64_t charged_bytes);
    void wait_for_worker(Connection& connection, sched::RequestId request,
                         std::optional<sched::SessionId> session);
    [[nodiscard]] bool refused(Connection& connection, sched::RequestId request,
                               bool needs_backbone);
    void send_status(Connection& connection, sched::RequestId request,
                     const sched::Snapshot& snapshot);
    void encoded(Connection& connection, sched::RequestId request,
                 std::optional<sched::SessionId> session, std::vector<std::uint32_t> ids);
    [[nodiscard]] adapters::Store::User user_of(const Connection& connection) const;
    /// The adapter that a request names, looked up; false after the answer that there
    /// is none.
    [[nodiscard]] bool find_adapter(Connection& connection, sched::RequestId request,
                                    sched::Request& typed);
    void adapter_checked(Connection& connection, sched::RequestId request,
                         const sched::AdapterChecked& checked);
    [[nodiscard]] std::size_t clients_of(uid_t uid) const;

    void stop_listening();
    void send_all_away();
    void leave_soon(int exit_code);
    void end_when_quiet();

    Parts parts_;
    std::optional<Listener> listener_;
    sched::Worker text_worker_;
    sched::Worker media_worker_;
    sched::Worker adapter_worker_;
    adapters::Store adapters_;
    std::shared_ptr<sched::EmbeddingCache> embeddings_;
    State state_ = State::serving;
    int exit_code_ = 0;
    std::optional<std::string> revoked_;  ///< why
    sched::ClientId next_client_ = 1;
    std::size_t client_count_ = 0;
    std::uint64_t started_us_ = 0;
    std::map<sched::ClientId, Slot> slots_;
    /// Closed, destroyed when no handler of theirs is on the stack.
    std::vector<std::unique_ptr<Connection>> doomed_;
    EventSource accepting_;
    EventSource accept_pause_;
    EventSource completing_;
    EventSource after_each_;
    EventSource deadline_;
};

}  // namespace m4::ipc
