// SPDX-License-Identifier: MIT
#include "drm.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <xf86drm.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <set>
#include <system_error>
#include <utility>

namespace m4::vk::drm {
namespace {

constexpr int kDevicesMax = 64;

/// An open node; closed with its owner.
class OpenNode {
   public:
    explicit OpenNode(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {}
    ~OpenNode() {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    OpenNode(const OpenNode&) = delete;
    OpenNode& operator=(const OpenNode&) = delete;
    [[nodiscard]] int fd() const { return fd_; }

   private:
    int fd_;
};

std::string errno_text() {
    return std::generic_category().message(errno);
}

/// "123 KiB" or "123 ns" or "123".
std::uint64_t quantity(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) {
        return 0;
    }
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return text == " KiB" ? value << 10 : text == " MiB" ? value << 20 : value;
}

std::string_view trimmed(std::string_view text) {
    const std::size_t begin = text.find_first_not_of(" \t");
    if (begin == std::string_view::npos) {
        return {};
    }
    return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

void take_line(Usage& usage, std::string_view key, std::string_view value) {
    constexpr std::string_view kEngine = "drm-engine-";
    constexpr std::string_view kCapacity = "drm-engine-capacity-";
    constexpr std::string_view kMemory = "drm-memory-";
    if (key == "drm-driver") {
        usage.driver = value;
    } else if (key == "drm-client-id") {
        usage.client = value;
    } else if (key.starts_with(kEngine) && !key.starts_with(kCapacity)) {
        usage.engine_ns[std::string(key.substr(kEngine.size()))] = quantity(value);
    } else if (key.starts_with(kMemory)) {
        usage.memory_bytes[std::string(key.substr(kMemory.size()))] = quantity(value);
    }
}

std::string with_unit(double value, const char* unit) {
    std::array<char, 48> text{};
    (void)std::snprintf(text.data(), text.size(), "%.1f %s", value, unit);
    return text.data();
}

}  // namespace

std::vector<Node> render_nodes() {
    std::array<drmDevicePtr, kDevicesMax> devices{};
    const int count = drmGetDevices2(0, devices.data(), kDevicesMax);
    std::vector<Node> nodes;
    for (int i = 0; i < count; ++i) {
        const drmDevice& device = *devices[static_cast<std::size_t>(i)];
        struct stat info {};
        if ((device.available_nodes & (1 << DRM_NODE_RENDER)) != 0 &&
            ::stat(device.nodes[DRM_NODE_RENDER], &info) == 0) {
            nodes.push_back(
                {device.nodes[DRM_NODE_RENDER], {major(info.st_rdev), minor(info.st_rdev)}});
        }
    }
    if (count > 0) {
        drmFreeDevices(devices.data(), count);
    }
    return nodes;
}

std::string find_node(std::span<const Node> nodes, const NodeNumber& number) {
    const auto found = std::ranges::find(nodes, number, &Node::number);
    return found == nodes.end() ? std::string{} : found->path;
}

std::string driver_of(const std::string& node) {
    const OpenNode open(node);
    drmVersionPtr version = open.fd() < 0 ? nullptr : drmGetVersion(open.fd());
    if (version == nullptr) {
        return {};
    }
    std::string text(version->name, static_cast<std::size_t>(version->name_len));
    text += " " + std::to_string(version->version_major) + "." +
            std::to_string(version->version_minor) + "." +
            std::to_string(version->version_patchlevel);
    drmFreeVersion(version);
    return text;
}

std::string import_refusal(const std::string& node, int dmabuf_fd) {
    const OpenNode open(node);
    if (open.fd() < 0) {
        return node + " cannot be opened: " + errno_text();
    }
    std::uint64_t prime = 0;
    if (drmGetCap(open.fd(), DRM_CAP_PRIME, &prime) != 0 || (prime & DRM_PRIME_CAP_IMPORT) == 0) {
        return "the driver of " + node + " imports no dma-buf";
    }
    std::uint32_t handle = 0;
    if (drmPrimeFDToHandle(open.fd(), dmabuf_fd, &handle) != 0) {
        return "the driver of " + node + " refuses the dma-buf: " + errno_text();
    }
    (void)drmCloseBufferHandle(open.fd(), handle);
    return {};
}

Usage parse_usage(std::string_view fdinfo) {
    Usage usage;
    while (!fdinfo.empty()) {
        const std::string_view line = fdinfo.substr(0, fdinfo.find('\n'));
        fdinfo.remove_prefix(std::min(fdinfo.size(), line.size() + 1));
        const std::size_t colon = line.find(':');
        if (colon != std::string_view::npos) {
            take_line(usage, line.substr(0, colon), trimmed(line.substr(colon + 1)));
        }
    }
    return usage;
}

std::vector<Usage> usage_of_process(const std::filesystem::path& fdinfo) {
    std::vector<Usage> usages;
    std::set<std::pair<std::string, std::string>> seen;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(fdinfo, ignored)) {
        std::ifstream file(entry.path());
        Usage usage = parse_usage(std::string(std::istreambuf_iterator<char>(file), {}));
        if (!usage.driver.empty() && seen.emplace(usage.driver, usage.client).second) {
            usages.push_back(std::move(usage));
        }
    }
    return usages;
}

std::string usage_text(std::span<const Usage> usages) {
    std::string text;
    for (const Usage& usage : usages) {
        text += (text.empty() ? "" : " | ") + usage.driver + ":";
        for (const auto& [engine, busy_ns] : usage.engine_ns) {
            text += " " + engine + " " + with_unit(static_cast<double>(busy_ns) / 1e6, "ms");
        }
        for (const auto& [region, bytes] : usage.memory_bytes) {
            text += " " + region + " " + with_unit(static_cast<double>(bytes) / (1 << 20), "MiB");
        }
    }
    return text;
}

}  // namespace m4::vk::drm
