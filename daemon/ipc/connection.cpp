// SPDX-License-Identifier: MIT
#include "ipc/connection.hpp"

#include <m4client.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cinttypes>
#include <utility>

#include "ipc/reply.hpp"

namespace m4::ipc {

using protocol::Fault;

Connection::Connection(sd_event* loop, const Limits& limits, sched::ClientId id, Accepted accepted,
                       Owner& owner)
    : limits_(&limits),
      owner_(&owner),
      id_(id),
      peer_(accepted.peer),
      fd_(std::move(accepted.fd)),
      loop_(loop) {
    const auto on_time = [](sd_event_source* source, std::uint64_t /*now*/, void* data) {
        return guarded(source, [&] { static_cast<Connection*>(data)->on_timeout(); });
    };
    timer_ = add_timer(loop, limits.hello_timeout_ms, on_time, this);
    const auto on_ready = [](sd_event_source* source, int /*fd*/, std::uint32_t events,
                             void* data) {
        return guarded(source, [&] { static_cast<Connection*>(data)->on_io(events); });
    };
    io_ = add_io(loop, fd_.get(), EPOLLIN | EPOLLRDHUP, on_ready, this);
}

void Connection::greet() {
    state_ = State::serving;
    timer_.reset();
}

void Connection::send(protocol::Packet packet, std::uint64_t charged_bytes) {
    if (state_ == State::closed) {
        return;
    }
    outbound_bytes_ += packet.bytes.size();
    outbound_.push_back({std::move(packet), charged_bytes});
    // What arrives now may have to wait behind what waits already.
    if (outbound_.size() == 1) {
        flush();
    }
    update_events();
}

void Connection::refuse(sched::RequestId request, int code, const std::string& message) {
    if (state_ == State::lingering || state_ == State::closed) {
        return;
    }
    observe::log(observe::Level::info, "client %" PRIu64 " (uid %u, pid %d) refused: %s", id_,
                 peer_.uid, peer_.pid, message.c_str());
    end();
    state_ = State::lingering;
    const auto on_time = [](sd_event_source* source, std::uint64_t /*now*/, void* data) {
        return guarded(source, [&] { static_cast<Connection*>(data)->close(); });
    };
    timer_ = add_timer(loop_, limits_->linger_ms, on_time, this);
    send(error_packet(request, code, message, 0), 0);
}

void Connection::end() {
    if (state_ == State::greeting || state_ == State::serving) {
        in_flight_.clear();
        owner_->ended(*this);
    }
}

void Connection::close() {
    if (state_ == State::closed) {
        return;
    }
    end();
    state_ = State::closed;
    io_.reset();
    timer_.reset();
    fd_.reset();
    outbound_.clear();
    outbound_bytes_ = 0;
    owner_->closed(*this);
}

void Connection::begin(sched::RequestId request) {
    in_flight_.insert(request);
    update_events();
}

void Connection::finish(sched::RequestId request) {
    in_flight_.erase(request);
    update_events();
}

void Connection::hold(bool held) {
    held_ = held;
    update_events();
}

void Connection::on_timeout() {
    refuse(0, M4_E_TIMEOUT, "no hello within " + std::to_string(limits_->hello_timeout_ms) + " ms");
}

void Connection::on_io(std::uint32_t events) {
    // Who hangs up, if only halfway, wants nothing any more.
    if ((events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR)) != 0) {
        close();
        return;
    }
    if ((events & EPOLLOUT) != 0) {
        flush();
    }
    if ((events & EPOLLIN) != 0) {
        if (state_ == State::lingering) {
            discard_messages();
        } else {
            read_messages();
        }
    }
    if (state_ != State::closed) {
        update_events();
    }
}

void Connection::read_messages() {
    for (std::size_t i = 0; i < limits_->messages_per_wake && reads(); ++i) {
        const Fault fault = protocol::receive_packet(fd_.get(), inbox_);
        switch (fault) {
            case Fault::kNone:
                break;
            case Fault::kWouldBlock:
                return;
            case Fault::kTooLarge:
            case Fault::kTooManyFds:
                refuse(0, M4_E_PROTOCOL, protocol::fault_text(fault));
                return;
            default:
                close();
                return;
        }
        const protocol::Decoded decoded = protocol::decode(inbox_.bytes());
        if (decoded.fault != Fault::kNone) {
            refuse(0, M4_E_PROTOCOL, protocol::fault_text(decoded.fault));
            return;
        }
        owner_->received(*this, *decoded.frame, inbox_.fd());
        inbox_.fd().reset();
    }
}

/// Unread input would turn the close into a reset, which the peer would see
/// instead of our last words.
void Connection::discard_messages() {
    for (std::size_t i = 0; i < limits_->messages_per_wake; ++i) {
        const Fault fault = protocol::receive_packet(fd_.get(), inbox_);
        if (fault == Fault::kWouldBlock) {
            return;
        }
        if (fault == Fault::kClosed || fault == Fault::kSystem) {
            close();
            return;
        }
    }
}

void Connection::flush() {
    std::uint64_t charged_bytes = 0;
    while (!outbound_.empty()) {
        const Fault fault = protocol::send_packet(fd_.get(), outbound_.front().packet);
        if (fault == Fault::kWouldBlock) {
            break;
        }
        if (fault != Fault::kNone) {
            close();
            return;
        }
        outbound_bytes_ -= outbound_.front().packet.bytes.size();
        charged_bytes += outbound_.front().charged_bytes;
        outbound_.pop_front();
    }
    if (charged_bytes > 0 && state_ == State::serving) {
        owner_->delivered(*this, charged_bytes);
    }
    if (outbound_.empty() && state_ == State::lingering) {
        shutdown(fd_.get(), SHUT_WR);
    }
}

bool Connection::reads() const {
    switch (state_) {
        case State::greeting:
        case State::lingering:
            return true;
        case State::serving:
            return !held_ && outbound_bytes_ < limits_->outbound_bytes &&
                   in_flight_.size() < limits_->requests_in_flight;
        case State::closed:
            break;
    }
    return false;
}

void Connection::update_events() {
    if (state_ == State::closed) {
        return;
    }
    const std::uint32_t events = EPOLLRDHUP | (reads() ? std::uint32_t{EPOLLIN} : 0U) |
                                 (outbound_.empty() ? 0U : std::uint32_t{EPOLLOUT});
    check(sd_event_source_set_io_events(io_.get(), events), "sd_event_source_set_io_events");
}

}  // namespace m4::ipc
