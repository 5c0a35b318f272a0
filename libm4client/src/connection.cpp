// SPDX-License-Identifier: MIT
#include "connection.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <new>

namespace m4::client {

namespace {

using protocol::Fault;

// Requests given up whose answers are still due. A service that answers none
// of this many is not serving.
constexpr std::size_t kMaxGivenUp = 1024;

/// More answers follow this one.
bool is_partial(const wire::Frame& frame) {
    return frame.body_type() == wire::Body::GenerateChunk ||
           frame.body_type() == wire::Body::ScoreChunk ||
           frame.body_type() == wire::Body::BenchProgress;
}

}  // namespace

Connection::Connection(UniqueFd socket, int timeout_ms)
    : socket_(std::move(socket)), timeout_ms_(timeout_ms) {}

Deadline Connection::deadline() const {
    return timeout_ms_ == 0 ? Deadline::never() : Deadline::after_ms(timeout_ms_);
}

void Connection::require_minor(std::uint16_t minor, const char* what) const {
    check_usable();
    if (minor_ < minor) {
        throw Error(M4_E_VERSION, std::string(what) + " needs protocol " +
                                      std::to_string(protocol::kVersionMajor) + "." +
                                      std::to_string(minor) + ", the service speaks " +
                                      std::to_string(protocol::kVersionMajor) + "." +
                                      std::to_string(minor_));
    }
}

void Connection::break_off(Error error) {
    if (broken_) {
        return;
    }
    broken_ = std::move(error);
    // The descriptor stays open for whoever polls it, but both ends see that
    // the conversation is over.
    ::shutdown(socket_.get(), SHUT_RDWR);
    outbox_.clear();
    given_up_.clear();
    for (auto& [id, stream] : streams_) {
        stream->fail(*broken_);
    }
    streams_.clear();
}

void Connection::fail(int code, std::string message) {
    break_off(Error(code, std::move(message)));
    throw Error(*broken_);
}

void Connection::check_usable() const {
    if (broken_) {
        throw Error(*broken_);
    }
}

void Connection::close() noexcept {
    try {
        break_off(Error(M4_E_UNAVAILABLE, "the client was closed"));
    } catch (...) {
        // Out of memory for the words: the closed descriptor fails all calls.
    }
    socket_.reset();
}

/// A service that refuses a client says why before it hangs up.
void Connection::hear_last_words() {
    const wire::Frame* frame = nullptr;
    while (receive_one(0, &frame) != Arrival::kNothing) {
    }
    fail(M4_E_UNAVAILABLE, "the service closed the connection");
}

void Connection::flush() {
    while (!outbox_.empty()) {
        switch (protocol::send_packet(socket_.get(), outbox_.front())) {
            case Fault::kNone:
                outbox_.pop_front();
                break;
            case Fault::kWouldBlock:
                return;
            default:
                // Whoever receives next learns why the service is gone.
                outbox_.clear();
                return;
        }
    }
}

void Connection::post(protocol::Packet packet) {
    check_usable();
    outbox_.push_back(std::move(packet));
    flush();
}

void Connection::send(protocol::Packet packet, Deadline deadline) {
    check_usable();
    if (given_up_.size() >= kMaxGivenUp) {
        throw Error(M4_E_BUSY, "too many requests that timed out are still unanswered");
    }
    for (;;) {
        flush();
        const Fault fault =
            outbox_.empty() ? protocol::send_packet(socket_.get(), packet) : Fault::kWouldBlock;
        switch (fault) {
            case Fault::kNone:
                return;
            case Fault::kWouldBlock:
                break;
            case Fault::kClosed:
                hear_last_words();
            case Fault::kTooLarge:
                throw Error(M4_E_TOO_LARGE, "the request does not fit a message");
            default:
                throw system_error("sendmsg", errno);
        }
        // The service may be waiting for us to read before it reads on.
        const wire::Frame* frame = nullptr;
        if (receive_one(0, &frame) == Arrival::kNothing && !wait(deadline, true)) {
            throw timed_out();
        }
    }
}

bool Connection::wait(Deadline deadline, bool for_room) {
    for (;;) {
        pollfd entry = {};
        entry.fd = socket_.get();
        entry.events = POLLIN;
        if (for_room || !outbox_.empty()) {
            entry.events |= POLLOUT;
        }
        const int ready = ::poll(&entry, 1, deadline.poll_ms());
        if (ready > 0) {
            if ((entry.revents & POLLOUT) != 0) {
                flush();
            }
            return true;
        }
        if (ready == 0) {
            return false;
        }
        if (errno != EINTR) {
            throw system_error("poll", errno);
        }
    }
}

Error Connection::timed_out() const {
    return {M4_E_TIMEOUT,
            "the service did not answer within " + std::to_string(timeout_ms_) + " ms"};
}

Connection::Arrival Connection::receive_one(std::uint64_t wanted, const wire::Frame** frame) {
    const Fault fault = protocol::receive_packet(socket_.get(), inbox_);
    switch (fault) {
        case Fault::kNone:
            break;
        case Fault::kWouldBlock:
            return Arrival::kNothing;
        case Fault::kClosed:
            fail(M4_E_UNAVAILABLE, "the service closed the connection");
        case Fault::kSystem:
            fail(M4_E_SYSTEM, system_error("recvmsg", errno).message());
        default:
            fail(M4_E_PROTOCOL, std::string("from the service: ") + protocol::fault_text(fault));
    }
    const protocol::Decoded decoded = protocol::decode(inbox_.bytes());
    if (decoded.frame == nullptr) {
        fail(M4_E_PROTOCOL,
             std::string("from the service: ") + protocol::fault_text(decoded.fault));
    }
    if (const auto* error = decoded.frame->body_as_ErrorReply();
        error != nullptr && error->code() >= 0) {
        fail(M4_E_PROTOCOL, "the service reported a failure without a failing code");
    }
    if (wanted != 0 && decoded.frame->id() == wanted) {
        *frame = decoded.frame;
        return Arrival::kWanted;
    }
    route(*decoded.frame);
    return Arrival::kRouted;
}

void Connection::route(const wire::Frame& frame) {
    const std::uint64_t id = frame.id();
    if (id == 0) {
        // It decoded, so it is an error, and it is about the whole connection.
        break_off(error_of(*frame.body_as_ErrorReply()));
        throw Error(*broken_);
    }
    if (const auto found = streams_.find(id); found != streams_.end()) {
        // Its own share: the stream leaves the map when this was its end.
        const std::shared_ptr<StreamState> stream = found->second;
        route_to_stream(frame, *stream);
        return;
    }
    const auto entry = given_up_.find(id);
    if (entry == given_up_.end()) {
        fail(M4_E_PROTOCOL, "the service answered a request that was not made");
    }
    if (is_partial(frame)) {
        return;
    }
    const Late late = entry->second;
    given_up_.erase(entry);
    if (const auto* session = frame.body_as_SessionReply();
        session != nullptr && late == Late::kCloseSession) {
        close_session(session->session());
    }
}

void Connection::route_to_stream(const wire::Frame& frame, StreamState& stream) {
    try {
        if (!stream.take(frame)) {
            fail(M4_E_PROTOCOL, std::string("the service answered with the wrong message, ") +
                                    wire::EnumNameBody(frame.body_type()));
        }
    } catch (const std::bad_alloc&) {
        stream.fail(Error(M4_E_NO_MEMORY, "out of memory"));
    } catch (const Error& error) {
        fail(error.code(), error.message());
    }
    if (!stream.ended() && stream.pending_bytes() > kPendingLimitBytes) {
        stream.fail(Error(M4_E_TOO_LARGE, "the stream was not read and over 4 MiB waited"));
    }
    if (stream.ended()) {
        streams_.erase(frame.id());
        if (is_partial(frame)) {
            give_up(frame.id());
        }
    }
}

const wire::Frame& Connection::await(std::uint64_t id, Deadline deadline, Late late) {
    bool answered = false;
    try {
        return await_frame(id, deadline, answered);
    } catch (...) {
        if (!answered && !broken_) {
            give_up(id, late);
        }
        throw;
    }
}

const wire::Frame& Connection::await_frame(std::uint64_t id, Deadline deadline, bool& answered) {
    for (;;) {
        check_usable();
        const wire::Frame* frame = nullptr;
        const Arrival arrival = receive_one(id, &frame);
        if (arrival == Arrival::kWanted) {
            if (const auto* error = frame->body_as_ErrorReply()) {
                answered = true;
                throw error_of(*error);
            }
            return *frame;
        }
        if (arrival == Arrival::kNothing && !wait(deadline, false)) {
            throw timed_out();
        }
    }
}

bool Connection::await_stream(const StreamState& stream, Deadline deadline) {
    while (!stream.has_event() && !stream.ended()) {
        check_usable();
        const wire::Frame* frame = nullptr;
        if (receive_one(0, &frame) == Arrival::kNothing && !wait(deadline, false)) {
            return false;
        }
    }
    return true;
}

void Connection::await_end(const StreamState& stream, Deadline deadline) {
    while (!stream.ended()) {
        check_usable();
        const wire::Frame* frame = nullptr;
        if (receive_one(0, &frame) == Arrival::kNothing && !wait(deadline, false)) {
            throw timed_out();
        }
    }
}

void Connection::cancel(StreamState& stream) {
    check_usable();
    if (!stream.ended() && !stream.cancelled) {
        stream.cancelled = true;
        post_cancel(stream.id());
    }
}

void Connection::post_cancel(std::uint64_t id) {
    protocol::Encoder encoder;
    const auto body = wire::CreateCancelRequest(encoder.builder(), id);
    post(encoder.finish(next_id(), body));
}

void Connection::give_up(std::uint64_t id, Late late) {
    given_up_[id] = late;
    post_cancel(id);
}

void Connection::close_session(std::uint64_t session_id) {
    const std::uint64_t id = next_id();
    protocol::Encoder encoder;
    const auto body = wire::CreateSessionCloseRequest(encoder.builder(), session_id);
    given_up_[id] = Late::kDrop;
    post(encoder.finish(id, body));
}

bool Connection::paused() const {
    for (const auto& [id, stream] : streams_) {
        if (stream->pending_bytes() > kPauseBytes) {
            return true;
        }
    }
    return false;
}

void Connection::dispatch() {
    check_usable();
    flush();
    const wire::Frame* frame = nullptr;
    while (!paused() && receive_one(0, &frame) == Arrival::kRouted) {
    }
}

short Connection::poll_events() const {
    short events = 0;
    if (!paused()) {
        events |= POLLIN;
    }
    if (!outbox_.empty()) {
        events |= POLLOUT;
    }
    return events;
}

std::vector<std::uint32_t> reply_ids(Connection& connection, const wire::Bulk* bulk) {
    std::vector<std::uint32_t> ids;
    const Fault fault = protocol::take_ids(bulk, connection.received_fd(),
                                           std::numeric_limits<std::uint32_t>::max(), ids);
    if (fault != Fault::kNone) {
        connection.fail(M4_E_PROTOCOL,
                        std::string("from the service: ") + protocol::fault_text(fault));
    }
    return ids;
}

protocol::BulkBytes reply_text(Connection& connection, const wire::Bulk* bulk) {
    protocol::BulkBytes text;
    const Fault fault =
        protocol::take_bulk(bulk, connection.received_fd(), protocol::kMaxBulkBytes, text);
    if (fault != Fault::kNone) {
        connection.fail(M4_E_PROTOCOL,
                        std::string("from the service: ") + protocol::fault_text(fault));
    }
    return text;
}

}  // namespace m4::client
