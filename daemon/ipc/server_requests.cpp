// SPDX-License-Identifier: MIT
// What becomes of each message of a client.
#include <m4client.h>

#include <algorithm>
#include <cinttypes>
#include <exception>
#include <string>
#include <utility>

#include "ipc/server.hpp"

namespace m4::ipc {

void Server::received(Connection& connection, const wire::Frame& frame, UniqueFd& fd) {
    const sched::RequestId request = frame.id();
    Command command;
    try {
        command = dispatch(frame, fd, parts_.limits);
    } catch (const std::bad_alloc&) {
        command = sched::Failure{M4_E_NO_MEMORY, "the service is out of memory", 0};
    }
    const bool greeting = std::holds_alternative<Greeting>(command);
    if (auto* violation = std::get_if<Violation>(&command)) {
        perform(connection, request, *violation);
    } else if (greeting == connection.greeted()) {
        connection.refuse(request, M4_E_PROTOCOL,
                          greeting ? "a second hello" : "the first message is no hello");
    } else if (connection.in_flight(request)) {
        connection.refuse(request, M4_E_PROTOCOL,
                          "request id " + std::to_string(request) + " is in use");
    } else {
        std::visit([&](auto& typed) { perform(connection, request, typed); }, command);
    }
}

void Server::perform(Connection& connection, sched::RequestId request, Greeting& greeting) {
    if (greeting.version_major != protocol::kVersionMajor) {
        connection.refuse(request, M4_E_VERSION,
                          "this service speaks protocol " +
                              std::to_string(protocol::kVersionMajor) + ", the client " +
                              std::to_string(greeting.version_major));
        return;
    }
    const Limits& limits = parts_.limits;
    if (state_ == State::draining || state_ == State::leaving) {
        connection.refuse(request, M4_E_UNAVAILABLE, "the service is stopping");
        return;
    }
    if (client_count_ >= limits.clients_total) {
        connection.refuse(request, M4_E_BUSY, "the service has all the clients it takes");
        return;
    }
    if (clients_of(connection.peer().uid) >= limits.clients_per_uid) {
        connection.refuse(
            request, M4_E_BUSY,
            "a user may have " + std::to_string(limits.clients_per_uid) + " connections");
        return;
    }
    connection.greet();
    embeddings_->remember(connection.id());
    ++client_count_;
    const Peer& peer = connection.peer();
    observe::log(observe::Level::debug, "client %" PRIu64 ": %s (uid %u, pid %d)", connection.id(),
                 greeting.client_name.c_str(), peer.uid, peer.pid);
    parts_.scheduler->client_joined(
        {connection.id(), peer.uid, peer.pid, std::move(greeting.client_name)});
    connection.send(hello_packet(request, greeting.features & protocol::kFeatures, parts_.info), 0);
}

void Server::perform(Connection& connection, sched::RequestId request, AskStatus& /*ask*/) {
    // At once, be the engine as busy as it may; but who closed a session and
    // then asks wants to see it closed.
    if (connection.in_flight_count() == 0) {
        send_status(connection, request, parts_.scheduler->snapshot());
        return;
    }
    connection.begin(request);
    parts_.scheduler->submit(connection.id(), request, sched::ReadFigures{});
}

void Server::send_status(Connection& connection, sched::RequestId request,
                         const sched::Snapshot& snapshot) {
    std::uint64_t now_us = 0;
    check(sd_event_now(parts_.loop, CLOCK_MONOTONIC, &now_us), "sd_event_now");
    LoopFigures figures;
    figures.uptime_ms = (now_us - started_us_) / 1000;
    figures.clients = static_cast<std::uint32_t>(client_count_);
    figures.adapters = static_cast<std::uint32_t>(adapters_.count());
    connection.send(status_packet(request, parts_.info, snapshot, figures), 0);
}

void Server::perform(Connection& connection, sched::RequestId request, AskModel& /*ask*/) {
    connection.send(model_packet(request, parts_.info), 0);
}

void Server::perform(Connection& connection, sched::RequestId request, EncodeText& encode) {
    if (refused(connection, request, true)) {
        return;
    }
    connection.begin(request);
    if (encode.text.size() > parts_.limits.inline_text_bytes) {
        wait_for_worker(connection, request, encode.session);
        text_worker_.post(connection.id(), request,
                          [text = parts_.text, encode = std::move(encode)]() -> sched::Outcome {
                              return sched::Tokens{text->encode(encode.text, encode.add_special)};
                          });
        return;
    }
    encoded(connection, request, encode.session,
            parts_.text->encode(encode.text, encode.add_special));
}

void Server::perform(Connection& connection, sched::RequestId request, DecodeIds& decode) {
    if (refused(connection, request, true)) {
        return;
    }
    const std::uint32_t vocabulary = parts_.text->vocabulary();
    const bool known =
        std::ranges::all_of(decode.ids, [&](std::uint32_t id) { return id < vocabulary; });
    connection.begin(request);
    if (!known) {
        send_outcome(connection, request,
                     sched::Failure{M4_E_INVALID, "a token is not in the vocabulary", 0}, 0);
    } else if (decode.ids.size() > parts_.limits.inline_ids) {
        wait_for_worker(connection, request, std::nullopt);
        text_worker_.post(connection.id(), request,
                          [text = parts_.text, ids = std::move(decode.ids)]() -> sched::Outcome {
                              return sched::Text{text->decode(ids)};
                          });
    } else {
        send_outcome(connection, request, sched::Text{parts_.text->decode(decode.ids)}, 0);
    }
}

void Server::perform(Connection& connection, sched::RequestId request, sched::Request& typed) {
    if (!find_adapter(connection, request, typed)) {
        return;
    }
    connection.begin(request);
    parts_.scheduler->submit(connection.id(), request, std::move(typed));
}

void Server::perform(Connection& connection, sched::RequestId /*request*/, Cancel& cancel) {
    parts_.scheduler->cancel(connection.id(), cancel.target);
}

void Server::perform(Connection& connection, sched::RequestId request, sched::Failure& failure) {
    connection.send(error_packet(request, failure.code, failure.message, failure.retry_after_ms),
                    0);
}

void Server::perform(Connection& connection, sched::RequestId request, Violation& violation) {
    connection.refuse(request, M4_E_PROTOCOL, violation.what);
}

/// What is not to be computed, with the answer sent.
bool Server::refused(Connection& connection, sched::RequestId request, bool needs_backbone) {
    if (revoked_) {
        connection.send(error_packet(request, M4_E_VERIFY, *revoked_, 0), 0);
        return true;
    }
    if (needs_backbone && parts_.text->vocabulary() == 0) {
        connection.send(error_packet(request, M4_E_UNSUPPORTED,
                                     "the image has no backbone: it only encodes", 0),
                        0);
        return true;
    }
    return false;
}

void Server::perform(Connection& connection, sched::RequestId request, AskParts& /*ask*/) {
    connection.send(parts_packet(request, *parts_.parts), 0);
}

void Server::perform(Connection& connection, sched::RequestId request, AskLabels& ask) {
    try {
        connection.send(labels_packet(request, parts_.parts->named(ask.part)), 0);
    } catch (const sched::Refusal& refusal) {
        connection.send(error_packet(request, refusal.code(), refusal.what(), 0), 0);
    }
}

void Server::perform(Connection& connection, sched::RequestId request, EncodeMedia& encode) {
    if (refused(connection, request, false)) {
        return;
    }
    connection.begin(request);
    wait_for_worker(connection, request, std::nullopt);
    const auto prepare = [parts = parts_.parts, cache = embeddings_, client = connection.id(),
                          encode = std::move(encode)]() -> sched::Outcome {
        try {
            return sched::Prepared{
                parts->prepare(encode.inputs, encode.data->bytes(), client, cache)};
        } catch (const sched::Refusal& refusal) {
            return sched::Failure{refusal.code(), refusal.what(), 0};
        }
    };
    media_worker_.post(connection.id(), request, prepare);
}

void Server::perform(Connection& connection, sched::RequestId request,
                     TranscribeMedia& transcribe) {
    if (refused(connection, request, false)) {
        return;
    }
    connection.begin(request);
    wait_for_worker(connection, request, std::nullopt);
    const auto prepare = [parts = parts_.parts,
                          transcribe = std::move(transcribe)]() -> sched::Outcome {
        try {
            return sched::Prepared{sched::prepare_transcribe(
                *parts, transcribe.inputs, transcribe.data->bytes(), transcribe.data)};
        } catch (const sched::Refusal& refusal) {
            return sched::Failure{refusal.code(), refusal.what(), 0};
        }
    };
    media_worker_.post(connection.id(), request, prepare);
}

/// A connection waits for its text or media: what it asks next may build on it.
void Server::wait_for_worker(Connection& connection, sched::RequestId request,
                             std::optional<sched::SessionId> session) {
    slots_.at(connection.id()).pending = Pending{request, session};
    connection.hold(true);
}

void Server::encoded(Connection& connection, sched::RequestId request,
                     std::optional<sched::SessionId> session, std::vector<std::uint32_t> ids) {
    if (session) {
        parts_.scheduler->submit(connection.id(), request,
                                 sched::AppendTokens{*session, std::move(ids)});
    } else {
        send_outcome(connection, request, sched::Tokens{std::move(ids)}, 0);
    }
}

}  // namespace m4::ipc
