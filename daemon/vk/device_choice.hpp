// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace m4::vk {

enum class DeviceType { discrete, integrated, virtual_gpu, cpu, other };

struct Candidate {
    std::string name;
    DeviceType type = DeviceType::other;
    std::string refusal;  ///< why it cannot be used; empty: it can
};

[[nodiscard]] std::string_view to_string(DeviceType type) noexcept;

/// Index of the wanted device: empty = the best by type, a number = that index,
/// else a part of the name, letter case aside. Throws DeviceError listing the
/// candidates when none fits.
[[nodiscard]] std::size_t choose_device(std::span<const Candidate> candidates,
                                        std::string_view wanted);

}  // namespace m4::vk
