// SPDX-License-Identifier: MIT
#include "lifecycle/updater.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <csignal>
#include <stdexcept>
#include <utility>

namespace m4::lifecycle {

Updater::Updater(sd_event* loop, ipc::Server& server, Notifier& notifier, Launch launch)
    : loop_(loop),
      server_(&server),
      notifier_(&notifier),
      handover_(loop, std::move(launch),
                {[this](pid_t pid, const std::string& status) { return let_go(pid, status); },
                 [this](const std::string& why) { failed(why); }}) {
    const auto on_signal = [](sd_event_source* source, const signalfd_siginfo* /*info*/,
                              void* data) {
        return ipc::guarded(source, [&] { static_cast<Updater*>(data)->update("SIGHUP"); });
    };
    sd_event_source* source = nullptr;
    ipc::check(sd_event_add_signal(loop, &source, SIGHUP, on_signal, this), "sd_event_add_signal");
    on_hangup_.reset(source);
}

void Updater::begin(Inherited inherited, const std::filesystem::path& socket_path,
                    const std::string& status) {
    if (!inherited.report) {
        notifier_->say("READY=1\nSTATUS=%s", status.c_str());
        become_main();
        return;
    }
    predecessor_ = std::move(inherited.report);
    if (inherited.owner == SocketOwner::us) {
        left_to_us_ = socket_path;
    }
    const auto on_end = [](sd_event_source* source, int, std::uint32_t, void* data) {
        return ipc::guarded(source, [&] { static_cast<Updater*>(data)->become_main(); });
    };
    on_predecessor_ = ipc::add_io(loop_, predecessor_.get(), EPOLLIN, on_end, this);
    const std::string line = status + "\n";
    if (::send(predecessor_.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(line.size())) {
        throw std::runtime_error("the process that this one was to succeed is gone");
    }
}

void Updater::become_main() {
    on_predecessor_.reset();
    predecessor_.reset();
    if (!left_to_us_.empty() && server_->listening()) {
        server_->listener().take_file(left_to_us_);
    }
    notifier_->set_heard(true);
    ipc::check(sd_event_set_watchdog(loop_, 1), "sd_event_set_watchdog");
}

void Updater::update(const char* why) {
    if (!server_->listening()) {
        observe::log(observe::Level::info, "%s: another process serves already, or none is to",
                     why);
        return;
    }
    observe::log(observe::Level::info, "%s: starting another process that takes over", why);
    handover_.start(server_->listener().fd(),
                    server_->listener().owns_file() ? SocketOwner::us : SocketOwner::manager);
}

bool Updater::let_go(pid_t successor, const std::string& status) {
    if (!server_->listening()) {
        return false;  // we are ending, and so is the service
    }
    // First out of the way: who is told of the new process meets it alone.
    server_->hand_over();
    notifier_->say("MAINPID=%d\nWATCHDOG=1\nSTATUS=%s", successor, status.c_str());
    notifier_->set_heard(false);
    ipc::check(sd_event_set_watchdog(loop_, 0), "sd_event_set_watchdog");
    observe::log(observe::Level::info, "process %d serves from now on; %zu clients stay here",
                 successor, server_->client_count());
    return true;
}

void Updater::failed(const std::string& why) {
    observe::log(observe::Level::error, "the process that was to take over did not come up: %s",
                 why.c_str());
}

}  // namespace m4::lifecycle
