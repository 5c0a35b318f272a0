// SPDX-License-Identifier: MIT
#include "manager.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace m4::test {
namespace {

constexpr timeval kPatience{120, 0};

/// One message and who sent it.
std::string receive(int fd, pid_t& sender) {
    std::array<char, 4096> text{};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control{};
    iovec part{text.data(), text.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = recvmsg(fd, &message, 0);
    if (got < 0) {
        throw std::runtime_error(std::string("the service manager hears nothing: ") +
                                 std::strerror(errno));
    }
    ucred credentials{};
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_type == SCM_CREDENTIALS) {
            std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
        }
    }
    sender = credentials.pid;
    return {text.data(), static_cast<std::size_t>(got)};
}

}  // namespace

Manager::Manager(const Scratch& scratch)
    : path_((scratch / "notify").string()), fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    const int on = 1;
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        setsockopt(fd_, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience) != 0 ||
        prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
        throw std::runtime_error("no service manager: " + path_);
    }
}

Manager::~Manager() {
    // Whatever a failed test left, named or not: all our children are orphans.
    const std::string self = std::to_string(getpid());
    std::ifstream children("/proc/" + self + "/task/" + self + "/children");
    for (pid_t child = 0; children >> child;) {
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
    }
    close(fd_);
}

std::string Manager::await(const std::string& name) {
    for (;;) {
        pid_t sender = -1;
        std::istringstream lines(receive(fd_, sender));
        if (sender != main_) {
            throw std::runtime_error("process " + std::to_string(sender) +
                                     " speaks and is not the main one: " + lines.str());
        }
        std::string found;
        bool is_there = false;
        for (std::string line; std::getline(lines, line);) {
            const std::size_t equals = line.find('=');
            const std::string key = line.substr(0, equals);
            const std::string value = line.substr(equals + 1);
            if (key == "MAINPID") {
                main_ = static_cast<pid_t>(std::stol(value));
            }
            if (key == name) {
                found = value;
                is_there = true;
            }
        }
        if (is_there) {
            return found;
        }
    }
}

int Manager::stop_main() {
    kill(main_, SIGTERM);
    int status = 0;
    const pid_t ended = waitpid(main_, &status, 0);
    if (ended != main_) {
        throw std::runtime_error("the main process is no child of the service manager");
    }
    main_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace m4::test
