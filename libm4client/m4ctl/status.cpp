// SPDX-License-Identifier: MIT
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

nlohmann::json to_json(const Status& s) {
    return {
        {"server_version", s.server_version},
        {"device_name", s.device_name},
        {"driver_name", s.driver_name},
        {"driver_info", s.driver_info},
        {"render_node", s.render_node},
        {"drm_driver", s.drm_driver},
        {"model_state", s.model_state},
        {"development", s.development != 0},
        {"weights_import", s.weights_import},
        {"kv_cache_type", s.kv_cache_type},
        {"weight_bytes", s.weight_bytes},
        {"copied_bytes", s.copied_bytes},
        {"kv_pool_bytes", s.kv_pool_bytes},
        {"kv_used_bytes", s.kv_used_bytes},
        {"kv_pages", s.kv_pages},
        {"kv_pages_used", s.kv_pages_used},
        {"kv_pages_shared", s.kv_pages_shared},
        {"uptime_ms", s.uptime_ms},
        {"start_to_ready_ms", s.start_to_ready_ms},
        {"tokens_prompt", s.tokens_prompt},
        {"tokens_generated", s.tokens_generated},
        {"clients", s.clients},
        {"sessions", s.sessions},
        {"requests_active", s.requests_active},
        {"requests_queued", s.requests_queued},
        {"cold", s.cold},
        {"senses_bytes", s.senses_bytes},
        {"inputs_encoded", s.inputs_encoded},
        {"inputs_reused", s.inputs_reused},
        {"adapters", s.adapters},
        {"adapters_resident", s.adapters_resident},
        {"adapter_pool_bytes", s.adapter_pool_bytes},
        {"adapter_used_bytes", s.adapter_used_bytes},
        {"adapter_loads", s.adapter_loads},
        {"adapter_evictions", s.adapter_evictions},
        {"adapter_load_us", s.adapter_load_us},
    };
}

std::string drm_words(const Status& s) {
    return s.render_node[0] == '\0' ? "none: not a device of the kernel's"
                                    : std::string(s.render_node) + ", " + s.drm_driver;
}

std::string adapter_words(const Status& s) {
    const std::string loads = s.adapter_loads == 0
                                  ? "none loaded yet"
                                  : std::to_string(s.adapter_loads) + " loads of " +
                                        time_text(s.adapter_load_us / s.adapter_loads) + ", " +
                                        std::to_string(s.adapter_evictions) + " made room";
    return std::to_string(s.adapters) + " kept, " + std::to_string(s.adapters_resident) +
           " ready in " + size_text(s.adapter_used_bytes) + " of " +
           size_text(s.adapter_pool_bytes) + "; " + loads;
}

void print(const Status& s) {
    const std::string weights = size_text(s.weight_bytes) + " by " + s.weights_import + ", " +
                                size_text(s.copied_bytes) + " copied";
    const std::string kv = size_text(s.kv_used_bytes) + " of " + size_text(s.kv_pool_bytes) +
                           " used, " + s.kv_cache_type + "; pages " +
                           std::to_string(s.kv_pages_used) + " of " + std::to_string(s.kv_pages) +
                           ", " + std::to_string(s.kv_pages_shared) + " shared";
    print_pairs({
        {"service", std::string("m4d ") + s.server_version + ", up " +
                        time_text(s.uptime_ms * 1000) + ", ready after " +
                        time_text(s.start_to_ready_ms * 1000)},
        {"image", std::string(s.model_state[0] != '\0' ? s.model_state : "state not told") +
                      (s.development != 0 ? ", signed by a DEVELOPMENT key" : "")},
        {"device", s.device_name},
        {"driver", std::string(s.driver_name) + " " + s.driver_info},
        {"DRM", drm_words(s)},
        {"weights", weights},
        {"KV cache", kv},
        {"tokens", std::to_string(s.tokens_prompt) + " prompt, " +
                       std::to_string(s.tokens_generated) + " generated"},
        {"senses", std::to_string(s.inputs_encoded) + " inputs encoded, " +
                       std::to_string(s.inputs_reused) + " known already; " +
                       size_text(s.senses_bytes) + " held"},
        {"adapters", adapter_words(s)},
        {"clients", std::to_string(s.clients) + ", sessions " + std::to_string(s.sessions)},
        {"requests", std::to_string(s.requests_active) + " active, " +
                         std::to_string(s.requests_queued) + " queued"},
        {"kernels",
         s.cold == 0 ? std::string("warm") : std::to_string(s.cold) + " preparations to come"},
    });
}

}  // namespace

void add_status(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command = app.add_subcommand("status", "What serves, where, and how busy it is");
    command->callback([&global, &action] {
        action = [&global] {
            const Status now = status(connect(global));
            warn_of_development(now.development != 0);
            if (global.json) {
                print_json(to_json(now));
            } else {
                print(now);
            }
            return kExitOk;
        };
    });
}

}  // namespace m4ctl
