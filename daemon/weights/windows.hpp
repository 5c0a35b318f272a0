// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace m4::weights {

/// Bytes of the payload.
struct Extent {
    std::uint64_t offset = 0;
    std::uint64_t size_bytes = 0;
};

/// A tensor to be covered; the name is for messages.
struct Wanted {
    std::string_view name;
    Extent extent;
};

struct WindowPlan {
    std::vector<Extent> windows;
    std::vector<std::uint32_t> window_of;  ///< by index of `wanted`
};

/// Cut the payload into windows of at most `window_bytes` so that each wanted
/// tensor lies whole in one. Windows begin and end at multiples of `alignment`
/// (a power of two that divides payload_bytes), so neighbours may overlap by
/// less than it. `wanted` is sorted by offset. Throws vk::DeviceError naming a
/// tensor that no window holds.
[[nodiscard]] WindowPlan plan_windows(std::span<const Wanted> wanted, std::uint64_t payload_bytes,
                                      std::uint64_t window_bytes, std::uint64_t alignment);

}  // namespace m4::weights
