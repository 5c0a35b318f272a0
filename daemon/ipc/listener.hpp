// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "protocol/unique_fd.hpp"

namespace m4::ipc {

/// Who is at the other end of a connection, as the kernel tells.
struct Peer {
    uid_t uid = 0;
    gid_t gid = 0;
    pid_t pid = 0;
};

struct Accepted {
    UniqueFd fd;
    Peer peer;
};

/// A listening SOCK_SEQPACKET Unix socket.
class Listener {
   public:
    /// One that systemd passed. Throws std::runtime_error where it is not such
    /// a socket.
    static Listener adopt(int fd);
    /// Bind `path`, mode 0660. A socket file nobody serves is replaced; throws
    /// std::runtime_error where someone does, or where `path` is no socket, and
    /// std::system_error. The file goes with the listener, if it is still its.
    static Listener bind(const std::filesystem::path& path);

    Listener(Listener&& other) noexcept = default;
    Listener& operator=(Listener&&) = delete;
    ~Listener();

    [[nodiscard]] int fd() const { return fd_.get(); }
    /// The socket's file goes with us.
    [[nodiscard]] bool owns_file() const { return !bound_.empty(); }
    /// From now on the file at `path` goes with us: who bound it has left it to
    /// us. Nothing where the socket is bound elsewhere or the file is gone.
    void take_file(const std::filesystem::path& path);
    /// The file stays: another process serves the socket.
    void leave_file() { bound_.clear(); }
    /// The next connection, non-blocking; none when no one waits. Throws
    /// std::system_error when descriptors or memory ran out.
    [[nodiscard]] std::optional<Accepted> accept() const;

   private:
    explicit Listener(UniqueFd fd) : fd_(std::move(fd)) {}

    UniqueFd fd_;
    std::filesystem::path bound_;  ///< empty: not ours to remove
    dev_t device_ = 0;             ///< which file it was
    ino_t inode_ = 0;
};

}  // namespace m4::ipc
