// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// The kernel's side of a Vulkan device, by libdrm: its render node, its
/// driver, what it imports, what it has used. A device without one (a software
/// driver) has none of these; nothing here throws for that.
namespace m4::vk::drm {

/// A device number, as VK_EXT_physical_device_drm tells it.
struct NodeNumber {
    std::int64_t major = 0;
    std::int64_t minor = 0;
    friend bool operator==(const NodeNumber&, const NodeNumber&) = default;
};

struct Node {
    std::string path;
    NodeNumber number;
};

/// The render nodes of this machine.
[[nodiscard]] std::vector<Node> render_nodes();
/// The path of the node with this number; empty: none.
[[nodiscard]] std::string find_node(std::span<const Node> nodes, const NodeNumber& number);
/// Its kernel driver's name and version, "msm 1.12.0"; empty where it cannot
/// be asked.
[[nodiscard]] std::string driver_of(const std::string& node);

/// Why the node's driver does not take this dma-buf; empty: it does. Imports
/// it (PRIME) and lets it go.
[[nodiscard]] std::string import_refusal(const std::string& node, int dmabuf_fd);

/// What one client of a DRM driver has used, from fdinfo (the kernel's
/// drm-usage-stats).
struct Usage {
    std::string driver;  ///< empty: not a DRM descriptor
    std::string client;  ///< descriptors of one client tell the same figures
    std::map<std::string, std::uint64_t> engine_ns;     ///< busy time by engine
    std::map<std::string, std::uint64_t> memory_bytes;  ///< by region
};
[[nodiscard]] Usage parse_usage(std::string_view fdinfo);

/// All of this process's clients, each once.
[[nodiscard]] std::vector<Usage> usage_of_process(
    const std::filesystem::path& fdinfo = "/proc/self/fdinfo");
/// "msm: gpu 12.3 ms memory 4.0 MiB", one line; empty without clients.
[[nodiscard]] std::string usage_text(std::span<const Usage> usages);

}  // namespace m4::vk::drm
