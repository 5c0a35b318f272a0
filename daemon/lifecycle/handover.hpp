// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>

#include "ipc/event.hpp"
#include "lifecycle/relaunch.hpp"
#include "protocol/unique_fd.hpp"

namespace m4::lifecycle {

/// Starts a second process of the service beside this one and learns when it
/// serves. Until then nothing changes here, and if it fails nothing has
/// changed. When we have let go the stream between us is closed, which tells
/// the other that it is the only one. Loop thread only.
class Handover {
   public:
    struct Events {
        /// It serves, with this line for people; we are to let go. False: we
        /// do not, and it is ended.
        std::function<bool(pid_t successor, const std::string& status)> on_ready;
        /// It did not come up; its own lines say why.
        std::function<void(const std::string& why)> on_failed;
    };

    /// A successor that is not ready by then has hung.
    static constexpr std::uint64_t kPatienceMs = 600'000;

    /// `loop` must outlive it.
    Handover(sd_event* loop, Launch launch, Events events);
    Handover(const Handover&) = delete;
    Handover& operator=(const Handover&) = delete;
    /// A successor that is not ready yet is ended.
    ~Handover();

    /// Starts a successor. While one is on its way: starts another when it has
    /// failed, or asks it to hand over again when it is ready, for what it
    /// found may be older than what we were asked for.
    void start(int listening_fd, SocketOwner owner);

   private:
    void launch();
    void on_report();
    void succeed();
    void fail(const std::string& why);
    void forget();
    void signal_successor(int number) const;

    sd_event* loop_;
    Launch launch_;
    Events events_;
    int listening_fd_ = -1;
    SocketOwner owner_ = SocketOwner::manager;
    bool again_ = false;
    std::string received_;  ///< its pid, then its line
    UniqueFd report_;
    UniqueFd successor_;          ///< pidfd, once its pid is known
    ipc::EventSource reporting_;  ///< before report_ in destruction
    ipc::EventSource patience_;
};

}  // namespace m4::lifecycle
