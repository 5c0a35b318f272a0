// SPDX-License-Identifier: MIT
// m4ctl doctor: is everything in place, from the socket down to the device?
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "commands.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4ctl {

namespace {

constexpr double kPatienceS = 30;
constexpr std::chrono::milliseconds kLookAgain{200};
constexpr std::chrono::minutes kStandstill{2};
constexpr char kDeviceNode[] = "/dev/m4/backbone";

struct Check {
    enum class Result { kOk, kWarn, kFail };
    std::string name;
    Result result = Result::kOk;
    std::string detail;
};

const char* result_name(Check::Result result) {
    switch (result) {
        case Check::Result::kOk:
            return "ok";
        case Check::Result::kWarn:
            return "warn";
        default:
            return "fail";
    }
}

Check warn_unless(bool good, const char* name, const std::string& detail) {
    return {name, good ? Check::Result::kOk : Check::Result::kWarn, detail};
}

Check check_device_node() {
    struct stat info = {};
    const bool there = ::stat(kDeviceNode, &info) == 0 && S_ISCHR(info.st_mode);
    return warn_unless(there, "kernel",
                       there ? std::string(kDeviceNode) + " is there"
                             : std::string("no ") + kDeviceNode + ": m4.ko has loaded no image");
}

bool is_software_device(const Status& s) {
    const std::string name = std::string(s.device_name) + " " + s.driver_name;
    return name.find("llvmpipe") != std::string::npos ||
           name.find("lavapipe") != std::string::npos ||
           name.find("SwiftShader") != std::string::npos;
}

std::vector<Check> check_status(const Status& s) {
    std::vector<Check> checks;
    checks.push_back(
        warn_unless(std::string(s.server_version) == m4_version(), "version",
                    std::string("m4d ") + s.server_version + ", this library " + m4_version()));
    checks.push_back(warn_unless(!is_software_device(s), "device",
                                 is_software_device(s)
                                     ? std::string(s.device_name) + ": software, not a GPU"
                                     : std::string(s.device_name)));
    checks.push_back(warn_unless(
        s.copied_bytes == 0, "weights",
        s.copied_bytes == 0 ? "used where they are mapped (" + std::string(s.weights_import) + ")"
                            : size_text(s.copied_bytes) + " of " + size_text(s.weight_bytes) +
                                  " copied (" + s.weights_import + ")"));
    checks.push_back(
        warn_unless(s.kv_used_bytes < s.kv_pool_bytes, "KV cache",
                    size_text(s.kv_used_bytes) + " of " + size_text(s.kv_pool_bytes) + " used"));
    return checks;
}

Check check_source(const ModelInfo& m) {
    const bool device = std::string(m.source) == "device";
    return warn_unless(device, "image",
                       std::string(m.name) + " " + m.version +
                           (device ? " from the device, verified by the kernel"
                                   : " from a folder: m4d verified it, no kernel pins it"));
}

Check check_signer(const ModelInfo& m) {
    if (m.signer[0] == '\0') {
        return warn_unless(false, "signer", "nobody that the kernel checked");
    }
    return warn_unless(
        m.development == 0, "signer",
        std::string(m.signer) + (m.development == 0 ? "" : ", a DEVELOPMENT key: not for users"));
}

Check check_state(const ModelInfo& m) {
    const std::string state = m.state;
    if (state == "revoked") {
        return {"state", Check::Result::kFail, "revoked: the kernel took the image back"};
    }
    return warn_unless(state.empty() || state == "ready", "state",
                       state.empty() ? "not told" : state);
}

/// Runs one step; what it throws is a failed check and ends the examination.
template <typename Step>
bool examine(std::vector<Check>& checks, const char* name, Step&& step) {
    try {
        step();
        return true;
    } catch (const Failure& failure) {
        checks.push_back({name, Check::Result::kFail, failure.what()});
        return false;
    }
}

std::vector<Check> examine_all(Global global) {
    if (global.timeout_s == 0) {
        global.timeout_s = kPatienceS;
    }
    std::vector<Check> checks;
    Client client;
    const bool reached = examine(checks, "socket", [&] {
        client = connect(global);
        checks.push_back({"socket", Check::Result::kOk, "the service answers"});
        checks.push_back({"protocol", Check::Result::kOk, "both sides speak it"});
    });
    if (reached) {
        examine(checks, "status", [&] {
            const auto found = check_status(status(client));
            checks.insert(checks.end(), found.begin(), found.end());
        });
        examine(checks, "image", [&] {
            const ModelInfo m = model_info(client);
            checks.push_back(check_source(m));
            checks.push_back(check_signer(m));
            checks.push_back(check_state(m));
        });
    }
    checks.push_back(check_device_node());
    return checks;
}

/// Until the service has nothing left to prepare. It prepares when it has
/// nothing else to do, so it may be long; not for ever.
void await_warm(const Global& global) {
    using Clock = std::chrono::steady_clock;
    const Client client = connect(global);
    ProgressLine progress("warming up");
    const std::uint32_t first = status(client).cold;
    std::uint32_t left = first;
    for (auto moved = Clock::now(); left != 0;) {
        progress.update(100 * (first - std::min(left, first)) / first);
        std::this_thread::sleep_for(kLookAgain);
        const std::uint32_t now = status(client).cold;
        if (now != left) {
            moved = Clock::now();
        } else if (Clock::now() - moved > kStandstill) {
            throw Failure(kExitFailed,
                          "warming up: nothing has moved for two minutes; is the service busy?");
        }
        left = now;
    }
}

int doctor(const Global& global, bool warm) {
    if (warm) {
        await_warm(global);
    }
    const std::vector<Check> checks = examine_all(global);
    bool good = true;
    nlohmann::json list = nlohmann::json::array();
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const Check& check : checks) {
        good = good && check.result != Check::Result::kFail;
        list.push_back({{"name", check.name},
                        {"result", result_name(check.result)},
                        {"detail", check.detail}});
        std::string head = result_name(check.result);
        head.resize(6, ' ');
        pairs.emplace_back(head + check.name, check.detail);
    }
    if (global.json) {
        print_json({{"ok", good}, {"checks", std::move(list)}});
    } else {
        print_pairs(pairs);
    }
    return good ? kExitOk : kExitFailed;
}

}  // namespace

void add_doctor(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command = app.add_subcommand("doctor", "Check the way from the socket to the device");
    auto warm = std::make_shared<bool>(false);
    command->add_flag("--warm", *warm, "first wait until every kernel is compiled and measured");
    command->callback(
        [&global, &action, warm] { action = [&global, warm] { return doctor(global, *warm); }; });
}

}  // namespace m4ctl
