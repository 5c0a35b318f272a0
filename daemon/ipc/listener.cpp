// SPDX-License-Identifier: MIT
#include "ipc/listener.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace m4::ipc {
namespace {

constexpr mode_t kSocketMode = 0660;

[[noreturn]] void throw_errno(const std::string& what) {
    throw std::system_error(errno, std::generic_category(), what);
}

UniqueFd make_socket() {
    UniqueFd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) {
        throw_errno("socket");
    }
    return fd;
}

sockaddr_un address_of(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& text = path.native();
    if (text.size() >= sizeof address.sun_path) {
        throw std::runtime_error(text + ": the path of a socket has at most " +
                                 std::to_string(sizeof address.sun_path - 1) + " bytes");
    }
    std::memcpy(address.sun_path, text.data(), text.size());
    return address;
}

/// The file at `path`, if any, is a socket nobody serves and is gone now.
void clear_dead_socket(const std::filesystem::path& path, const sockaddr_un& address) {
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) {
        if (errno == ENOENT) {
            return;
        }
        throw_errno(path.native());
    }
    if (!S_ISSOCK(info.st_mode)) {
        throw std::runtime_error(path.native() + " exists and is no socket");
    }
    const UniqueFd probe = make_socket();
    const int status =
        connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    if (status != 0 && errno == ECONNREFUSED) {
        if (unlink(path.c_str()) != 0 && errno != ENOENT) {
            throw_errno("cannot remove the dead socket " + path.native());
        }
        return;
    }
    // A full backlog (EAGAIN) or a stream socket (EPROTOTYPE) is served too.
    if (status == 0 || errno == EAGAIN || errno == EPROTOTYPE) {
        throw std::runtime_error("another service listens at " + path.native());
    }
    throw_errno(path.native());
}

}  // namespace

Listener Listener::adopt(int fd) {
    UniqueFd owned(fd);
    if (sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, nullptr, 0) <= 0) {
        throw std::runtime_error(
            "the socket passed by the service manager is no listening SOCK_SEQPACKET Unix socket");
    }
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        throw_errno("fcntl");
    }
    return Listener(std::move(owned));
}

Listener Listener::bind(const std::filesystem::path& path) {
    const sockaddr_un address = address_of(path);
    // Two daemons that start at once take turns: the folder is the lock.
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    const UniqueFd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock || flock(lock.get(), LOCK_EX) != 0) {
        throw_errno(folder.native());
    }
    clear_dead_socket(path, address);

    Listener listener(make_socket());
    // Never wider than wanted, whatever the umask; then exactly as wanted.
    if (fchmod(listener.fd(), kSocketMode) != 0) {
        throw_errno("fchmod");
    }
    if (::bind(listener.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        throw_errno("cannot bind " + path.native());
    }
    listener.take_file(path);
    if (!listener.owns_file()) {
        throw std::runtime_error(path.native() + " was removed while it was being bound");
    }
    if (chmod(path.c_str(), kSocketMode) != 0 || listen(listener.fd(), SOMAXCONN) != 0) {
        throw_errno("cannot listen at " + path.native());
    }
    return listener;
}

void Listener::take_file(const std::filesystem::path& path) {
    const sockaddr_un wanted = address_of(path);
    sockaddr_un address{};
    socklen_t size = sizeof address;
    struct stat info {};
    if (getsockname(fd(), reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
        std::strncmp(address.sun_path, wanted.sun_path, sizeof wanted.sun_path) == 0 &&
        lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
        bound_ = std::filesystem::absolute(path);
        device_ = info.st_dev;
        inode_ = info.st_ino;
    }
}

Listener::~Listener() {
    struct stat info {};
    if (fd_ && !bound_.empty() && lstat(bound_.c_str(), &info) == 0 && info.st_dev == device_ &&
        info.st_ino == inode_) {
        unlink(bound_.c_str());
    }
}

std::optional<Accepted> Listener::accept() const {
    UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            throw_errno("accept");
        }
        // Nobody waits, or who waited has left.
        return std::nullopt;
    }
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
        return std::nullopt;
    }
    return Accepted{std::move(fd), {credentials.uid, credentials.gid, credentials.pid}};
}

}  // namespace m4::ipc
