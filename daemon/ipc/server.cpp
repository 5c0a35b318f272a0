// SPDX-License-Identifier: MIT
// Connections and completions: who is here, and what comes back to them.
#include "ipc/server.hpp"

#include <m4client.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cinttypes>
#include <exception>
#include <utility>

namespace m4::ipc {
namespace {

constexpr std::uint64_t kAcceptPauseMs = 200;

std::uint64_t monotonic_us(sd_event* loop) {
    std::uint64_t now = 0;
    check(sd_event_now(loop, CLOCK_MONOTONIC, &now), "sd_event_now");
    return now;
}

}  // namespace

Server::Server(Parts parts, Listener listener)
    : parts_(std::move(parts)),
      listener_(std::move(listener)),
      text_worker_("m4-text", *parts_.completions),
      media_worker_("m4-media", *parts_.completions),
      adapter_worker_("m4-adapters", *parts_.completions),
      adapters_(parts_.quota),
      embeddings_(std::make_shared<sched::EmbeddingCache>()),
      started_us_(monotonic_us(parts_.loop)) {
    const auto on_connect = [](sd_event_source* source, int, std::uint32_t, void* data) {
        return guarded(source, [&] { static_cast<Server*>(data)->accept_all(); });
    };
    accepting_ = add_io(parts_.loop, listener_->fd(), EPOLLIN, on_connect, this);
    const auto on_complete = [](sd_event_source* source, int, std::uint32_t, void* data) {
        return guarded(source, [&] { static_cast<Server*>(data)->deliver_completions(); });
    };
    completing_ = add_io(parts_.loop, parts_.completions->fd(), EPOLLIN, on_complete, this);
    const auto on_each = [](sd_event_source* source, void* data) {
        return guarded(source, [&] {
            auto& server = *static_cast<Server*>(data);
            server.doomed_.clear();
            server.end_when_quiet();
        });
    };
    sd_event_source* post = nullptr;
    check(sd_event_add_post(parts_.loop, &post, on_each, this), "sd_event_add_post");
    after_each_.reset(post);
}

Server::~Server() = default;

// ---- connections

void Server::accept_all() {
    Connection::Owner& owner = *this;
    try {
        while (slots_.size() < client_count_ + parts_.limits.strangers) {
            std::optional<Accepted> accepted = listener_->accept();
            if (!accepted) {
                return;
            }
            const sched::ClientId id = next_client_++;
            Slot slot;
            slot.connection = std::make_unique<Connection>(parts_.loop, parts_.limits, id,
                                                           std::move(*accepted), owner);
            slots_.emplace(id, std::move(slot));
        }
    } catch (const std::exception& error) {
        observe::log(observe::Level::warning, "cannot accept for now: %s", error.what());
    }
    // Who waits stays in the backlog; look again when there is room or time.
    check(sd_event_source_set_enabled(accepting_.get(), SD_EVENT_OFF), "sd_event");
    const auto on_time = [](sd_event_source* source, std::uint64_t, void* data) {
        return guarded(source, [&] { static_cast<Server*>(data)->listen_again(); });
    };
    accept_pause_ = add_timer(parts_.loop, kAcceptPauseMs, on_time, this);
}

void Server::listen_again() {
    accept_pause_.reset();
    if (accepting_) {
        check(sd_event_source_set_enabled(accepting_.get(), SD_EVENT_ON), "sd_event");
    }
}

void Server::delivered(Connection& connection, std::uint64_t charged_bytes) {
    parts_.scheduler->delivered(connection.id(), charged_bytes);
}

void Server::ended(Connection& connection) {
    if (!connection.serving()) {
        return;
    }
    observe::log(observe::Level::debug, "client %" PRIu64 " left", connection.id());
    --client_count_;
    slots_.at(connection.id()).pending.reset();
    text_worker_.forget(connection.id());
    media_worker_.forget(connection.id());
    adapter_worker_.forget(connection.id());
    adapters_.forget(connection.id());
    embeddings_->forget(connection.id());
    parts_.scheduler->client_left(connection.id());
}

void Server::closed(Connection& connection) {
    const auto slot = slots_.find(connection.id());
    doomed_.push_back(std::move(slot->second.connection));
    slots_.erase(slot);
    if (accept_pause_) {
        listen_again();
    }
}

std::size_t Server::clients_of(uid_t uid) const {
    return static_cast<std::size_t>(std::ranges::count_if(slots_, [&](const auto& entry) {
        const Connection& connection = *entry.second.connection;
        return connection.serving() && connection.peer().uid == uid;
    }));
}

// ---- completions

void Server::deliver_completions() {
    for (sched::Completion& completion : parts_.completions->drain()) {
        deliver(completion);
    }
}

void Server::deliver(sched::Completion& completion) {
    if (const auto* lost = std::get_if<sched::DeviceLost>(&completion.outcome)) {
        observe::log(observe::Level::error, "the device is lost: %s", lost->message.c_str());
        leave_soon(kExitDevice);
        return;
    }
    if (const auto* revoked = std::get_if<sched::ImageRevoked>(&completion.outcome)) {
        mark_revoked(revoked->message);
        return;
    }
    const auto found = slots_.find(completion.client);
    if (found == slots_.end() || !found->second.connection->serving()) {
        return;
    }
    Slot& slot = found->second;
    if (slot.pending && slot.pending->request == completion.request) {
        resume(slot, completion);
        return;
    }
    send_outcome(*slot.connection, completion.request, completion.outcome,
                 completion.charged_bytes);
}

/// The process stays, so that status can tell, and a newer image be waited for.
void Server::mark_revoked(const std::string& why) {
    observe::log(observe::Level::error, "nothing is computed any more: %s", why.c_str());
    revoked_ = why;
    parts_.info.model_state = "revoked";
    if (parts_.on_revoked) {
        parts_.on_revoked(why);
    }
    if (state_ == State::handed_over) {
        send_all_away();
    }
}

void Server::resume(Slot& slot, sched::Completion& completion) {
    Connection& connection = *slot.connection;
    const Pending pending = *std::exchange(slot.pending, std::nullopt);
    if (auto* tokens = std::get_if<sched::Tokens>(&completion.outcome)) {
        encoded(connection, pending.request, pending.session, std::move(tokens->ids));
    } else if (const auto* checked = std::get_if<sched::AdapterChecked>(&completion.outcome)) {
        adapter_checked(connection, pending.request, *checked);
    } else if (auto* prepared = std::get_if<sched::Prepared>(&completion.outcome)) {
        parts_.scheduler->submit(connection.id(), pending.request, std::move(prepared->what));
    } else {
        send_outcome(connection, pending.request, completion.outcome, 0);
    }
    connection.hold(false);
}

void Server::send_outcome(Connection& connection, sched::RequestId request,
                          const sched::Outcome& outcome, std::uint64_t charged_bytes) {
    if (const auto* snapshot = std::get_if<sched::Snapshot>(&outcome)) {
        connection.finish(request);
        send_status(connection, request, *snapshot);
        return;
    }
    std::vector<protocol::Packet> packets;
    try {
        packets = outcome_packets(request, outcome);
    } catch (const std::exception& error) {
        // A reply that cannot be made ends the request all the same.
        observe::log(observe::Level::error, "a reply cannot be made: %s", error.what());
        packets.push_back(error_packet(request, M4_E_INTERNAL, error.what(), 0));
    }
    // Last first: finish() may let more requests in, whose id may be this one.
    if (is_last(outcome)) {
        connection.finish(request);
    }
    for (protocol::Packet& packet : packets) {
        const bool last = &packet == &packets.back();
        connection.send(std::move(packet), last ? charged_bytes : 0);
    }
}

// ---- the end

void Server::stop_listening() {
    accepting_.reset();
    accept_pause_.reset();
    listener_.reset();
}

void Server::hand_over() {
    if (state_ != State::serving) {
        return;
    }
    state_ = State::handed_over;
    exit_code_ = 0;
    listener_->leave_file();
    stop_listening();
    if (revoked_) {
        send_all_away();
        return;
    }
    parts_.info.model_state = "draining";
    const auto on_time = [](sd_event_source* source, std::uint64_t, void* data) {
        return guarded(source, [&] { static_cast<Server*>(data)->send_all_away(); });
    };
    deadline_ = add_timer(parts_.loop, parts_.limits.handover_ms, on_time, this);
}

/// Each connection closes when its client has read why, or soon after.
void Server::send_all_away() {
    std::vector<sched::ClientId> all;
    for (const auto& entry : slots_) {
        all.push_back(entry.first);
    }
    for (const sched::ClientId id : all) {
        if (const auto slot = slots_.find(id); slot != slots_.end()) {
            slot->second.connection->refuse(0, M4_E_UNAVAILABLE,
                                            "the model was updated: connect again");
        }
    }
}

void Server::drain(int exit_code) {
    if (state_ == State::draining || state_ == State::leaving) {
        return;
    }
    state_ = State::draining;
    exit_code_ = exit_code;
    stop_listening();
    parts_.scheduler->refuse_new();
    const auto on_time = [](sd_event_source* source, std::uint64_t, void* data) {
        return guarded(source, [&] {
            auto& server = *static_cast<Server*>(data);
            server.parts_.scheduler->cancel_all();
            server.leave_soon(server.exit_code_);
        });
    };
    deadline_ = add_timer(parts_.loop, parts_.limits.drain_ms, on_time, this);
}

void Server::leave_soon(int exit_code) {
    state_ = State::leaving;
    exit_code_ = exit_code;
    stop_listening();
    const auto on_time = [](sd_event_source* source, std::uint64_t, void* data) {
        return guarded(source, [&] {
            sd_event_exit(sd_event_source_get_event(source),
                          static_cast<Server*>(data)->exit_code_);
        });
    };
    deadline_ = add_timer(parts_.loop, parts_.limits.flush_ms, on_time, this);
}

void Server::end_when_quiet() {
    if (state_ == State::serving || (state_ == State::handed_over && !slots_.empty())) {
        return;
    }
    const bool quiet = std::ranges::all_of(slots_, [](const auto& entry) {
        const Connection& connection = *entry.second.connection;
        return !connection.serving() || (connection.in_flight_count() == 0 && connection.flushed());
    });
    if (quiet) {
        sd_event_exit(parts_.loop, exit_code_);
    }
}

}  // namespace m4::ipc
