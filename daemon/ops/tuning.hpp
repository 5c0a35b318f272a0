// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "vk/device.hpp"

namespace m4::ops {

/// How work is cut into workgroups. Lanes of a workgroup unless said otherwise.
struct Tuning {
    bool fuse = true;  ///< a program's groups of operators as one kernel each
    std::uint32_t elementwise_lanes = 64;
    std::uint32_t norm_lanes = 64;
    std::uint32_t linear_lanes = 64;
    bool linear_address = false;  ///< weights by address, where the device has them
    /// Lanes that share a quad of weight rows; divides linear_lanes.
    std::uint32_t linear_split = 8;
    std::uint32_t attention_lanes = 64;
    /// Lanes that share a (row, head) pair, for steps of few and of many rows;
    /// divides attention_lanes.
    std::uint32_t attention_split_few = 64;
    std::uint32_t attention_split_many = 16;
    std::uint32_t attention_many_rows = 8;

    [[nodiscard]] static Tuning for_device(const vk::Device& device);
};

}  // namespace m4::ops
