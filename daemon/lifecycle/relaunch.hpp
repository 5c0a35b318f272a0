// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "protocol/unique_fd.hpp"

namespace m4::lifecycle {

/// How this process was started, so that it can be started once more.
struct Launch {
    std::string executable;                ///< its path when it started; the file may be newer now
    std::vector<std::string> arguments;    ///< with argv[0]
    std::vector<std::string> environment;  ///< "NAME=value"
};

/// Before anything changes the environment.
[[nodiscard]] Launch remember_launch(int argc, char** argv, char** environment);

/// Who listens for the successor.
enum class SocketOwner {
    manager,  ///< the service manager bound it
    us,       ///< its file is to be removed at the end, by who serves it then
};

/// Starts `launch` once more. The new process finds the listening socket and
/// `report_fd`, one end of a stream between us, as descriptors of a service
/// manager (LISTEN_FDS) and no other descriptor of ours but 0 to 2. The first
/// thing it writes to the stream is its pid, as a pid_t; see Updater.
///
/// It is not our child but that of whoever gathers orphans (the service
/// manager), so that it is looked after when we are gone. Throws
/// std::system_error and std::runtime_error where no process can be made.
void start_successor(const Launch& launch, int listening_fd, SocketOwner owner, int report_fd);

/// Descriptors passed at the start.
struct Inherited {
    UniqueFd listener;  ///< none: bind one
    SocketOwner owner = SocketOwner::manager;
    UniqueFd report;  ///< to our predecessor; none: we succeed nobody
};

/// Throws std::runtime_error where something else was passed. Once, from main.
[[nodiscard]] Inherited take_inherited();

}  // namespace m4::lifecycle
