// SPDX-License-Identifier: MIT
#include "lifecycle/handover.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <system_error>
#include <utility>

// glibc 2.36 leaves out what makes it a C header for C++.
extern "C" {
#include <sys/pidfd.h>
}

namespace m4::lifecycle {
namespace {

constexpr std::size_t kStatusBytes = 1024;

pid_t pid_in(const std::string& received) {
    pid_t pid = 0;
    std::memcpy(&pid, received.data(), sizeof pid);
    return pid;
}

}  // namespace

Handover::Handover(sd_event* loop, Launch launch, Events events)
    : loop_(loop), launch_(std::move(launch)), events_(std::move(events)) {}

Handover::~Handover() {
    if (report_) {
        signal_successor(SIGTERM);
    }
}

void Handover::start(int listening_fd, SocketOwner owner) {
    listening_fd_ = listening_fd;
    owner_ = owner;
    if (report_) {
        again_ = true;
        return;
    }
    launch();
}

void Handover::launch() {
    again_ = false;
    try {
        std::array<int, 2> ends{-1, -1};
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
            throw std::system_error(errno, std::generic_category(), "socketpair");
        }
        report_ = UniqueFd(ends[0]);
        const UniqueFd its_end(ends[1]);
        if (::fcntl(report_.get(), F_SETFL, O_NONBLOCK) != 0) {
            throw std::system_error(errno, std::generic_category(), "fcntl");
        }
        const auto on_report = [](sd_event_source* source, int, std::uint32_t, void* data) {
            return ipc::guarded(source, [&] { static_cast<Handover*>(data)->on_report(); });
        };
        reporting_ = ipc::add_io(loop_, report_.get(), EPOLLIN, on_report, this);
        const auto on_time = [](sd_event_source* source, std::uint64_t, void* data) {
            return ipc::guarded(source, [&] {
                auto& self = *static_cast<Handover*>(data);
                self.signal_successor(SIGKILL);
                self.fail("it was not ready after " + std::to_string(kPatienceMs / 1000) + " s");
            });
        };
        patience_ = ipc::add_timer(loop_, kPatienceMs, on_time, this);
        start_successor(launch_, listening_fd_, owner_, its_end.get());
    } catch (const std::exception& error) {
        fail(error.what());
    }
}

void Handover::on_report() {
    std::array<char, 256> piece{};
    const ssize_t got = ::read(report_.get(), piece.data(), piece.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        fail("it ended before it was ready");
        return;
    }
    received_.append(piece.data(), static_cast<std::size_t>(got));
    if (received_.size() < sizeof(pid_t)) {
        return;
    }
    if (!successor_) {
        successor_ = UniqueFd(::pidfd_open(pid_in(received_), 0));
    }
    if (received_.back() == '\n' && received_.size() > sizeof(pid_t)) {
        succeed();
    } else if (received_.size() > kStatusBytes) {
        signal_successor(SIGKILL);
        fail("it does not speak as it should");
    }
}

void Handover::succeed() {
    const pid_t pid = pid_in(received_);
    const std::string status = received_.substr(sizeof pid, received_.size() - sizeof pid - 1);
    if (!events_.on_ready(pid, status)) {
        signal_successor(SIGTERM);
    } else if (again_) {
        signal_successor(SIGHUP);
    }
    forget();
}

void Handover::fail(const std::string& why) {
    forget();
    events_.on_failed(why);
    if (again_) {
        launch();
    }
}

void Handover::forget() {
    reporting_.reset();
    patience_.reset();
    report_.reset();
    successor_.reset();
    received_.clear();
}

void Handover::signal_successor(int number) const {
    if (successor_) {
        (void)::pidfd_send_signal(successor_.get(), number, nullptr, 0);
    }
}

}  // namespace m4::lifecycle
