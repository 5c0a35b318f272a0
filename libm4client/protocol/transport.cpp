// SPDX-License-Identifier: MIT
// Messages over a SOCK_SEQPACKET socket, with at most one descriptor each.
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "protocol/codec.hpp"

namespace m4::protocol {

namespace {

// Room for a few descriptors more than the one allowed, so that the usual
// offender is told apart, and for the credentials of a socket that has
// SO_PASSCRED. What does not fit the kernel drops and flags MSG_CTRUNC.
constexpr std::size_t kFdRoom = 4;
constexpr std::size_t kControlBytes = CMSG_SPACE(kFdRoom * sizeof(int)) + CMSG_SPACE(sizeof(ucred));

/// Takes every descriptor of the message; returns how many there were and
/// keeps the first.
std::size_t take_fds(msghdr& message, UniqueFd& first) {
    std::size_t count = 0;
    for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
         part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const std::size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < here; ++i) {
            int raw = -1;
            std::memcpy(&raw, CMSG_DATA(part) + i * sizeof(int), sizeof raw);
            UniqueFd fd(raw);
            if (count++ == 0) {
                first = std::move(fd);
            }
        }
    }
    return count;
}

Fault fault_of_errno() {
    switch (errno) {
        case EAGAIN:
            return Fault::kWouldBlock;
        case EPIPE:
        case ECONNRESET:
        case ENOTCONN:
            return Fault::kClosed;
        case EMSGSIZE:
            return Fault::kTooLarge;
        default:
            return Fault::kSystem;
    }
}

}  // namespace

// The buffer is left uninitialised: only what recvmsg wrote is ever read.
Inbox::Inbox() : buffer_(std::make_unique_for_overwrite<std::byte[]>(kMaxMessageBytes)) {}

Fault receive_packet(int socket_fd, Inbox& inbox) {
    inbox.size_bytes_ = 0;
    inbox.fd_.reset();

    alignas(cmsghdr) std::array<char, kControlBytes> control;
    iovec part = {inbox.buffer_.get(), kMaxMessageBytes};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();

    ssize_t got = 0;
    bool reset = false;
    for (;;) {
        got = ::recvmsg(socket_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        // A peer that left without reading all we sent shows as one
        // ECONNRESET ahead of its last words, which are still queued.
        if (got < 0 && errno == ECONNRESET && !reset) {
            reset = true;
        } else if (got >= 0 || errno != EINTR) {
            break;
        }
    }
    if (got < 0) {
        return fault_of_errno();
    }

    UniqueFd fd;
    const std::size_t fd_count = take_fds(message, fd);
    if (got == 0) {
        return Fault::kClosed;
    }
    if ((message.msg_flags & MSG_TRUNC) != 0) {
        return Fault::kTooLarge;
    }
    if (fd_count > 1 || (message.msg_flags & MSG_CTRUNC) != 0) {
        return Fault::kTooManyFds;
    }
    inbox.size_bytes_ = static_cast<std::size_t>(got);
    inbox.fd_ = std::move(fd);
    return Fault::kNone;
}

Fault send_packet(int socket_fd, const Packet& packet) {
    if (packet.bytes.empty() || packet.bytes.size() > kMaxMessageBytes) {
        return Fault::kTooLarge;
    }
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control = {};
    // sendmsg only reads through the pointer.
    iovec part = {const_cast<std::byte*>(packet.bytes.data()), packet.bytes.size()};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (packet.fd) {
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        const int raw = packet.fd.get();
        std::memcpy(CMSG_DATA(header), &raw, sizeof raw);
    }
    ssize_t sent = 0;
    do {
        sent = ::sendmsg(socket_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? fault_of_errno() : Fault::kNone;
}

}  // namespace m4::protocol
