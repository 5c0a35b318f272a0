// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "vk/device.hpp"

namespace m4::ops {

/// How work is cut into workgroups. Lanes of a workgroup unless said otherwise.
struct Tuning {
    /// Kernels that pass data around subgroups of 8 lanes, where the device has them.
    bool subgroup8 = true;
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
    /// Slices of the context, in workgroups of their own, for steps of few rows; 1:
    /// one kernel does it all.
    std::uint32_t attention_slices = 8;
    /// Halves of the KV cache become floats by shifts (kv.glsl): where floats
    /// below the normal ones are kept.
    bool shift_halves = false;
    std::uint32_t top_lanes = 128;
    /// Candidates for sampling are chosen on the device: where the host reads a row
    /// of logits slowly.
    bool top_on_device = true;
    /// Tokens that greedy decoding chains in a submission.
    std::uint32_t chain = 4;

    /// What is taken without a measurement.
    [[nodiscard]] static Tuning for_device(const vk::Device& device);
};

/// The name is what a measured choice is kept by.
struct NamedTuning {
    std::string_view name;
    Tuning tuning;
};

/// What a device may do well with: first the one that it gets unmeasured.
[[nodiscard]] std::vector<NamedTuning> tunings_for(const vk::Device& device);
/// The most attention_slices of these.
[[nodiscard]] std::uint32_t most_slices(const vk::Device& device);

}  // namespace m4::ops
