// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "engine/engine.hpp"
#include "observe/log.hpp"

namespace m4 {

/// What the command line and the environment say.
struct Config {
    /// Exactly one is meant: the folder where given, else the device node.
    std::filesystem::path image_folder;
    std::filesystem::path device_node = "/dev/m4/backbone";
    std::filesystem::path control_node = "/dev/m4/control";   ///< gives dma-bufs
    std::filesystem::path firmware_dir = "/lib/firmware/m4";  ///< where the kernel loaded from
    std::filesystem::path socket_path;  ///< unless the service manager passes one
    engine::Options engine;
    /// After a handover: how long who is still here is served.
    std::uint32_t drain_seconds = 600;
    observe::Level log_level = observe::Level::info;
};

/// None: say nothing more and exit with `*exit_code` (help, version, or a
/// usage error that was printed).
[[nodiscard]] std::optional<Config> parse_arguments(int argc, char** argv, int* exit_code);

}  // namespace m4
