// SPDX-License-Identifier: MIT
#include "tuning.hpp"

#include <algorithm>

namespace m4::ops {

namespace {

/// Measured on lavapipe (8 lanes to a vector): small groups start cheapest, and
/// lanes that share work pay for shared memory.
constexpr Tuning kProcessor = {.elementwise_lanes = 32,
                               .norm_lanes = 8,
                               .linear_lanes = 16,
                               .linear_split = 1,
                               .attention_lanes = 8,
                               .attention_split_few = 8,
                               .attention_split_many = 1,
                               // As many pairs of row and head as it has cores keep it busy.
                               .attention_slices = 1,
                               .shift_halves = true,
                               .top_lanes = 8,
                               .top_on_device = false,  // a row is a copy of memory
                               // A submission costs nothing beside a step.
                               .chain = 1};

Tuning with(Tuning tuning, std::uint32_t lanes, std::uint32_t split) {
    tuning.linear_lanes = lanes;
    tuning.linear_split = split;
    return tuning;
}

}  // namespace

Tuning Tuning::for_device(const vk::Device& device) {
    return tunings_for(device).front().tuning;
}

std::vector<NamedTuning> tunings_for(const vk::Device& device) {
    const vk::Limits& limits = device.limits();
    std::vector<NamedTuning> all;
    if (device.identity().type == vk::DeviceType::cpu) {
        all = {{"cpu", kProcessor}, {"cpu-32", with(kProcessor, 32, 1)}};
        if (limits.subgroup8) {
            all.push_back({"cpu-alone", kProcessor});
            all.back().tuning.subgroup8 = false;
        }
        return all;
    }
    all = {{"gpu-8", {}},
           {"gpu-4", with({}, 64, 4)},
           {"gpu-16", with({}, 64, 16)},
           {"gpu-1", with({}, 64, 1)}};
    if (limits.workgroup_lanes >= 128) {
        all.push_back({"gpu-128-8", with({}, 128, 8)});
    }
    if (limits.addresses) {
        all.push_back({"gpu-8-address", {}});
        all.back().tuning.linear_address = true;
    }
    return all;
}

std::uint32_t most_slices(const vk::Device& device) {
    std::uint32_t most = 1;
    for (const NamedTuning& one : tunings_for(device)) {
        most = std::max(most, one.tuning.attention_slices);
    }
    return most;
}

}  // namespace m4::ops
