// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <string>

#include "ipc/server.hpp"
#include "lifecycle/handover.hpp"
#include "lifecycle/notifier.hpp"

namespace m4::lifecycle {

/// Processes of the service succeed each other. When a newer image is ready, or
/// SIGHUP asks for it, another process takes over with the image as it is then;
/// this one serves on who is here.
///
/// Between two of them: the new one writes its pid and, when it serves, a line
/// for people; the old one stops listening, names the new one to the service
/// manager and closes the stream; with that the new one is the main process.
/// Loop thread only.
class Updater {
   public:
    /// All must outlive it. SIGHUP is blocked in every thread.
    Updater(sd_event* loop, ipc::Server& server, Notifier& notifier, Launch launch);

    /// Once, when the server serves: tells our predecessor, or, where
    /// `inherited` names none, the service manager. `status` is one line for
    /// people. Throws std::runtime_error where the predecessor is gone: who
    /// ended it wants us gone as well.
    void begin(Inherited inherited, const std::filesystem::path& socket_path,
               const std::string& status);

    /// `why` is for the log. Nothing where another process serves already.
    void update(const char* why);

   private:
    void become_main();
    [[nodiscard]] bool let_go(pid_t successor, const std::string& status);
    void failed(const std::string& why);

    sd_event* loop_;
    ipc::Server* server_;
    Notifier* notifier_;
    Handover handover_;
    ipc::EventSource on_hangup_;
    std::filesystem::path left_to_us_;  ///< the socket's file; empty: it is not
    UniqueFd predecessor_;
    ipc::EventSource on_predecessor_;  ///< before predecessor_ in destruction
};

}  // namespace m4::lifecycle
