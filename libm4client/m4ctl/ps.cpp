// SPDX-License-Identifier: MIT
#include <nlohmann/json.hpp>
#include <span>

#include "commands.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

nlohmann::json to_json(std::span<const m4_session_entry> entries) {
    nlohmann::json sessions = nlohmann::json::array();
    for (const m4_session_entry& e : entries) {
        sessions.push_back({{"session_id", e.session_id},
                            {"pid", e.pid},
                            {"uid", e.uid},
                            {"client_name", e.client_name},
                            {"position", e.position},
                            {"capacity", e.capacity},
                            {"tokens_generated", e.tokens_generated},
                            {"active", e.active != 0}});
    }
    return {{"sessions", sessions}};
}

void print(std::span<const m4_session_entry> entries) {
    std::vector<std::vector<std::string>> rows;
    for (const m4_session_entry& e : entries) {
        rows.push_back({std::to_string(e.session_id), std::to_string(e.pid), std::to_string(e.uid),
                        clip(printable(e.client_name, true), 20),
                        std::to_string(e.position) + "/" + std::to_string(e.capacity),
                        count_text(e.tokens_generated), e.active != 0 ? "active" : "idle"});
    }
    print_table({{"SESSION", true},
                 {"PID", true},
                 {"UID", true},
                 {"CLIENT"},
                 {"CONTEXT", true},
                 {"GENERATED", true},
                 {"STATE"}},
                rows);
}

}  // namespace

void add_ps(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command = app.add_subcommand("ps", "Sessions: yours, or all for root");
    command->callback([&global, &action] {
        action = [&global] {
            const Client client = connect(global);
            m4_session_entry* entries = nullptr;
            size_t count = 0;
            check(m4_session_list(client.get(), &entries, &count), client.get());
            const Array<m4_session_entry> owned(entries);
            if (global.json) {
                print_json(to_json({entries, count}));
            } else {
                print({entries, count});
            }
            return kExitOk;
        };
    });
}

}  // namespace m4ctl
