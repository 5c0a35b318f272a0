// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <deque>
#include <set>
#include <string>

#include "ipc/event.hpp"
#include "ipc/limits.hpp"
#include "ipc/listener.hpp"
#include "protocol/codec.hpp"
#include "sched/request.hpp"

namespace m4::ipc {

/// One client's socket: whole messages in, queued messages out. Loop thread
/// only.
///
/// A connection serves until it ends: its peer hung up, broke the protocol or
/// was refused. An ended one may linger, only to let its peer read why; then
/// it closes.
class Connection {
   public:
    /// Told of everything; may destroy the connection only after closed(), and
    /// not before the handler that called it has returned.
    class Owner {
       public:
        /// A checked frame. `fd` came with it; what is left in it is closed.
        virtual void received(Connection& connection, const wire::Frame& frame, UniqueFd& fd) = 0;
        /// Messages that were charged so much have left.
        virtual void delivered(Connection& connection, std::uint64_t charged_bytes) = 0;
        /// Once: it serves no longer.
        virtual void ended(Connection& connection) = 0;
        /// Once, after ended(): its socket is closed.
        virtual void closed(Connection& connection) = 0;

       protected:
        ~Owner() = default;
    };

    /// `loop`, `limits` and `owner` must outlive it. Starts reading; a peer
    /// that is not greeted in time is refused.
    Connection(sd_event* loop, const Limits& limits, sched::ClientId id, Accepted accepted,
               Owner& owner);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() = default;

    [[nodiscard]] sched::ClientId id() const { return id_; }
    [[nodiscard]] const Peer& peer() const { return peer_; }
    /// After its hello and until it ends.
    [[nodiscard]] bool serving() const { return state_ == State::serving; }
    [[nodiscard]] bool greeted() const { return state_ != State::greeting; }
    void greet();

    void send(protocol::Packet packet, std::uint64_t charged_bytes);
    [[nodiscard]] bool flushed() const { return outbound_.empty(); }

    /// Answer `request` (0: the connection as such) with an error, then close.
    void refuse(sched::RequestId request, int code, const std::string& message);
    /// Close at once.
    void close();

    /// Requests that have not had their last answer.
    [[nodiscard]] bool in_flight(sched::RequestId request) const {
        return in_flight_.contains(request);
    }
    [[nodiscard]] std::size_t in_flight_count() const { return in_flight_.size(); }
    void begin(sched::RequestId request);
    void finish(sched::RequestId request);
    /// While held nothing is read: what follows a long text waits its turn.
    void hold(bool held);

   private:
    enum class State : std::uint8_t { greeting, serving, lingering, closed };
    struct Outgoing {
        protocol::Packet packet;
        std::uint64_t charged_bytes;
    };

    void on_io(std::uint32_t events);
    void on_timeout();
    void read_messages();
    void discard_messages();
    void flush();
    void end();
    [[nodiscard]] bool reads() const;
    void update_events();

    const Limits* limits_;
    Owner* owner_;
    sched::ClientId id_;
    Peer peer_;
    State state_ = State::greeting;
    bool held_ = false;
    UniqueFd fd_;
    protocol::Inbox inbox_;
    std::deque<Outgoing> outbound_;
    std::size_t outbound_bytes_ = 0;
    std::set<sched::RequestId> in_flight_;
    sd_event* loop_;
    EventSource timer_;  ///< of the hello, then of lingering
    EventSource io_;     ///< before fd_ in destruction
};

}  // namespace m4::ipc
