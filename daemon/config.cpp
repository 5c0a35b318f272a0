// SPDX-License-Identifier: MIT
#include "config.hpp"

#include <CLI/CLI.hpp>
#include <map>

#include "protocol/version.hpp"
#include "sched/limits.hpp"

namespace m4 {
namespace {

constexpr int kExitUsage = 2;
constexpr std::uint64_t kMaxPoolMib = 1U << 20;
constexpr std::uint32_t kMaxStepRows = 4096;
constexpr std::uint32_t kMaxDrainSeconds = 24 * 3600;

const std::map<std::string, engine::KvType> kKvTypes = {
    {"f16", engine::KvType::f16}, {"q8", engine::KvType::q8}, {"f32", engine::KvType::f32}};
const std::map<std::string, observe::Level> kLevels = {{"error", observe::Level::error},
                                                       {"warning", observe::Level::warning},
                                                       {"info", observe::Level::info},
                                                       {"debug", observe::Level::debug}};

}  // namespace

std::optional<Config> parse_arguments(int argc, char** argv, int* exit_code) {
    Config config;
    config.socket_path = protocol::kDefaultSocketPath;
    std::uint64_t pool_mib = config.engine.kv_pool_bytes >> 20;

    CLI::App app("m4d serves the device's foundation model to apps over a Unix socket", "m4d");
    app.set_version_flag("--version", std::string("m4d ") + M4_VERSION);
    auto* image = app.add_option("--image", config.image_folder, "folder of a firmware image")
                      ->type_name("DIR");
    app.add_option("--device-node", config.device_node, "firmware image loaded by the kernel")
        ->type_name("PATH")
        ->excludes(image)
        ->capture_default_str();
    app.add_option("--control-node", config.control_node, "where the kernel exports the image")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_option("--firmware-dir", config.firmware_dir,
                   "where the kernel read its images: the page cache lets them go")
        ->type_name("DIR")
        ->capture_default_str();
    app.add_option("--socket", config.socket_path,
                   "listen here, unless the service manager passes a socket")
        ->type_name("PATH")
        ->capture_default_str();
    app.add_option("--kv-cache", config.engine.kv_type,
                   "element type of the KV cache: f16, q8 or f32")
        ->transform(CLI::Transformer(kKvTypes).description(""))
        ->type_name("TYPE")
        ->default_str("f16");
    app.add_option("--kv-pool-mib", pool_mib, "memory for all KV caches, in MiB")
        ->check(CLI::Range(std::uint64_t{1}, kMaxPoolMib).description(""))
        ->type_name("N")
        ->capture_default_str();
    app.add_option("--gpu", config.engine.device, "Vulkan device: an index or a part of its name")
        ->type_name("NAME|INDEX");
    app.add_option("--max-step-rows", config.engine.max_step_rows, "tokens computed at once")
        ->check(CLI::Range(sched::kMinStepRows, kMaxStepRows).description(""))
        ->type_name("N")
        ->capture_default_str();
    app.add_option("--drain-seconds", config.drain_seconds,
                   "when a newer image serves: how long clients of this one may stay")
        ->check(CLI::Range(0U, kMaxDrainSeconds).description(""))
        ->type_name("N")
        ->capture_default_str();
    app.add_option("--cache-dir", config.engine.cache_dir,
                   "compiled shaders are kept here; default: $CACHE_DIRECTORY")
        ->type_name("DIR");
    app.add_flag("--validation", config.engine.validation, "run under Vulkan's validation layer");
    app.add_option("--log-level", config.log_level, "error, warning, info or debug")
        ->transform(CLI::Transformer(kLevels).description(""))
        ->type_name("LEVEL")
        ->default_str("info");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        *exit_code = app.exit(error) == 0 ? 0 : kExitUsage;
        return std::nullopt;
    }
    config.engine.kv_pool_bytes = pool_mib << 20;
    return config;
}

}  // namespace m4
