// SPDX-License-Identifier: MIT
#include "windows.hpp"

#include <string>

#include "vk/error.hpp"

namespace m4::weights {

WindowPlan plan_windows(std::span<const Wanted> wanted, std::uint64_t payload_bytes,
                        std::uint64_t window_bytes, std::uint64_t alignment) {
    WindowPlan plan;
    if (payload_bytes <= window_bytes) {
        plan.windows.push_back({0, payload_bytes});
        plan.window_of.assign(wanted.size(), 0);
        return plan;
    }
    for (const Wanted& tensor : wanted) {
        const std::uint64_t first = tensor.extent.offset / alignment * alignment;
        const std::uint64_t end =
            (tensor.extent.offset + tensor.extent.size_bytes + alignment - 1) / alignment *
            alignment;
        if (end - first > window_bytes) {
            throw vk::DeviceError("tensor '" + std::string(tensor.name) + "' of " +
                                  std::to_string(tensor.extent.size_bytes) +
                                  " bytes is larger than the device's largest buffer, " +
                                  std::to_string(window_bytes) + " bytes");
        }
        if (plan.windows.empty() || end - plan.windows.back().offset > window_bytes) {
            plan.windows.push_back({first, 0});
        }
        Extent& window = plan.windows.back();
        window.size_bytes = end - window.offset;
        plan.window_of.push_back(static_cast<std::uint32_t>(plan.windows.size() - 1));
    }
    return plan;
}

}  // namespace m4::weights
