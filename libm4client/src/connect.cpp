// SPDX-License-Identifier: MIT
// From nothing to a connection on which both sides have said hello.
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "connection.hpp"
#include "text.hpp"

namespace m4::client {

namespace {

constexpr std::size_t kMaxNameBytes = 31;  // m4_session_entry.client_name

/// The one place that reads the environment.
std::string resolve_path(const char* given) {
    if (given != nullptr && *given != '\0') {
        return given;
    }
    // Ignored in a set-user-id program, whose environment is not its own.
    const char* named = ::secure_getenv("M4_SOCKET");
    return named != nullptr && *named != '\0' ? named : protocol::kDefaultSocketPath;
}

Error connect_error(const std::string& path, int error_number) {
    const std::string words = path + ": " + std::generic_category().message(error_number);
    switch (error_number) {
        case EACCES:
        case EPERM:
            return {M4_E_PERMISSION, words};
        case ENOENT:
        case ENOTDIR:
        case ECONNREFUSED:
        case ECONNRESET:
        case EPROTOTYPE:
            return {M4_E_UNAVAILABLE, words};
        default:
            return {M4_E_SYSTEM, "connect " + words};
    }
}

/// connect(2) on a Unix socket waits while the listener's backlog is full, for
/// as long as SO_SNDTIMEO says.
UniqueFd connect_socket(const std::string& path, Deadline deadline) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        throw invalid("the socket path is over 107 bytes");
    }
    std::memcpy(address.sun_path, path.data(), path.size());

    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!socket) {
        throw system_error("socket", errno);
    }
    for (;;) {
        const int left_ms = deadline.poll_ms();
        if (left_ms == 0) {
            throw Error(M4_E_TIMEOUT, path + ": no answer to the connection in time");
        }
        if (left_ms > 0) {
            const timeval left = {left_ms / 1000, left_ms % 1000 * 1000L};
            if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &left, sizeof left) != 0) {
                throw system_error("setsockopt", errno);
            }
        }
        const auto* generic = reinterpret_cast<const sockaddr*>(&address);
        if (::connect(socket.get(), generic, sizeof address) == 0) {
            return socket;
        }
        if (errno != EINTR && errno != EAGAIN) {
            throw connect_error(path, errno);
        }
    }
}

}  // namespace

std::shared_ptr<Connection> connect(const m4_connect_options& options,
                                    std::string* server_version) {
    if (options.timeout_ms < 0) {
        throw invalid("timeout_ms is negative");
    }
    const auto deadline =
        options.timeout_ms == 0 ? Deadline::never() : Deadline::after_ms(options.timeout_ms);
    const std::string name(clip_utf8(
        options.client_name != nullptr ? options.client_name : program_invocation_short_name,
        kMaxNameBytes));

    auto connection = std::make_shared<Connection>(
        connect_socket(resolve_path(options.socket_path), deadline), options.timeout_ms);
    const auto& hello =
        connection->call_until<wire::HelloReply>(deadline, [&](protocol::Encoder& encoder) {
            return wire::CreateHelloDirect(encoder.builder(), protocol::kVersionMajor,
                                           protocol::kVersionMinor, protocol::kFeatures,
                                           name.c_str());
        });
    if (hello.version_major() != protocol::kVersionMajor) {
        throw Error(M4_E_VERSION, "the service speaks protocol " +
                                      std::to_string(hello.version_major()) + ", this library " +
                                      std::to_string(protocol::kVersionMajor));
    }
    connection->set_minor(hello.version_minor());
    if (server_version != nullptr) {
        *server_version = protocol::text_of(hello.server_version());
    }
    return connection;
}

}  // namespace m4::client
