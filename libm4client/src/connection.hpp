// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "deadline.hpp"
#include "error.hpp"
#include "protocol/codec.hpp"
#include "stream_state.hpp"

namespace m4::client {

/// One connection and everything under way on it. The client, its sessions
/// and its streams share it, so that a handle closed late never dangles.
///
/// Every message that arrives is moved where it belongs, whoever waits: to the
/// caller of await(), to its stream, or nowhere when its request was given up.
/// Not thread-safe, like the handles on it.
class Connection {
   public:
    Connection(UniqueFd socket, int timeout_ms);

    [[nodiscard]] int fd() const { return socket_.get(); }
    /// The client's limit for one blocking call that starts now.
    [[nodiscard]] Deadline deadline() const;
    [[nodiscard]] int timeout_ms() const { return timeout_ms_; }

    /// What the service said hello with.
    void set_minor(std::uint16_t minor) { minor_ = minor; }
    /// Throws M4_E_VERSION where the service is too old to know `what`.
    void require_minor(std::uint16_t minor, const char* what) const;

    /// A fresh request id.
    [[nodiscard]] std::uint64_t next_id() { return ++last_id_; }

    /// Sends, waiting for room; reads meanwhile what arrives.
    void send(protocol::Packet packet, Deadline deadline);
    /// Sends now or keeps the packet until there is room. For messages whose
    /// caller must not wait; each belongs to a handle or a request given up,
    /// which bounds their number.
    void post(protocol::Packet packet);

    /// What becomes of an answer that comes after its request was given up.
    enum class Late { kDrop, kCloseSession };

    /// The next message of request `id`; throws its ErrorReply. The frame is
    /// valid until the next call. At the deadline throws M4_E_TIMEOUT. With
    /// any failure but an ErrorReply the request is given up.
    [[nodiscard]] const wire::Frame& await(std::uint64_t id, Deadline deadline,
                                           Late late = Late::kDrop);
    /// Cancels a request and drops what is still answered to it; a session
    /// that was being made is closed.
    void give_up(std::uint64_t id, Late late = Late::kDrop);

    /// Request and single reply. make(encoder) returns the body's offset.
    template <typename Reply, typename Make>
    const Reply& call(Make&& make, Late late = Late::kDrop) {
        return call_until<Reply>(deadline(), std::forward<Make>(make), late);
    }
    template <typename Reply, typename Make>
    const Reply& call_until(Deadline until, Make&& make, Late late = Late::kDrop) {
        const std::uint64_t id = next_id();
        protocol::Encoder encoder;
        const auto body = make(encoder);
        send(encoder.finish(id, body), until);
        return reply_as<Reply>(await(id, until, late));
    }

    /// Starts a request whose answers go to the returned stream.
    template <typename Make>
    std::shared_ptr<StreamState> start_stream(Make&& make) {
        auto stream = std::make_shared<StreamState>(next_id());
        protocol::Encoder encoder;
        const auto body = make(encoder);
        protocol::Packet packet = encoder.finish(stream->id(), body);
        streams_.emplace(stream->id(), stream);
        try {
            send(std::move(packet), deadline());
        } catch (...) {
            streams_.erase(stream->id());
            throw;
        }
        return stream;
    }

    /// Waits until the stream has something to tell or has ended; false at the
    /// deadline.
    [[nodiscard]] bool await_stream(const StreamState& stream, Deadline deadline);
    /// Waits until the stream has ended; throws M4_E_TIMEOUT.
    void await_end(const StreamState& stream, Deadline deadline);
    void cancel(StreamState& stream);

    /// Asks the service to close a session, without waiting.
    void close_session(std::uint64_t session_id);

    /// Moves what can move without blocking.
    void dispatch();
    [[nodiscard]] short poll_events() const;

    /// The client handle is gone: every later call fails.
    void close() noexcept;

    /// The frame's body as the reply this request has; breaks otherwise.
    template <typename Reply>
    const Reply& reply_as(const wire::Frame& frame) {
        if (frame.body_type() != wire::BodyTraits<Reply>::enum_value) {
            fail(M4_E_PROTOCOL, std::string("the service answered with the wrong message, ") +
                                    wire::EnumNameBody(frame.body_type()));
        }
        return *static_cast<const Reply*>(frame.body());
    }

    /// The connection cannot be used any more; throws, now and in every call.
    [[noreturn]] void fail(int code, std::string message);

    /// The descriptor that came with the last received message.
    [[nodiscard]] UniqueFd& received_fd() { return inbox_.fd(); }

    /// Of the calls on any handle of this connection.
    LastError last_error;

   private:
    enum class Arrival { kNothing, kRouted, kWanted };

    void check_usable() const;
    [[nodiscard]] Arrival receive_one(std::uint64_t wanted, const wire::Frame** frame);
    void route(const wire::Frame& frame);
    void route_to_stream(const wire::Frame& frame, StreamState& stream);
    [[nodiscard]] const wire::Frame& await_frame(std::uint64_t id, Deadline deadline,
                                                 bool& answered);
    void break_off(Error error);
    void flush();
    [[noreturn]] void hear_last_words();
    void post_cancel(std::uint64_t id);
    /// False at the deadline.
    [[nodiscard]] bool wait(Deadline deadline, bool for_room);
    [[nodiscard]] Error timed_out() const;
    [[nodiscard]] bool paused() const;

    UniqueFd socket_;
    int timeout_ms_;
    std::uint16_t minor_ = 0;
    std::uint64_t last_id_ = 0;
    protocol::Inbox inbox_;
    std::deque<protocol::Packet> outbox_;
    std::map<std::uint64_t, std::shared_ptr<StreamState>> streams_;  // not ended
    std::map<std::uint64_t, Late> given_up_;                         // not ended
    std::optional<Error> broken_;
};

/// Resolves the path, connects and says hello, all before the timeout.
[[nodiscard]] std::shared_ptr<Connection> connect(const m4_connect_options& options,
                                                  std::string* server_version = nullptr);

/// The bulk payload of a reply.
[[nodiscard]] std::vector<std::uint32_t> reply_ids(Connection& connection, const wire::Bulk* bulk);
[[nodiscard]] protocol::BulkBytes reply_text(Connection& connection, const wire::Bulk* bulk);

}  // namespace m4::client
