// SPDX-License-Identifier: MIT
#include "tuning.hpp"

namespace m4::ops {

Tuning Tuning::for_device(const vk::Device& device) {
    Tuning tuning;
    if (device.identity().type == vk::DeviceType::cpu) {
        // Measured on lavapipe (8 lanes to a vector): small groups start
        // cheapest, and lanes that share work pay for shared memory.
        tuning.elementwise_lanes = 32;
        tuning.norm_lanes = 8;
        tuning.linear_lanes = 16;
        tuning.linear_split = 1;
        tuning.attention_lanes = 8;
        tuning.attention_split_few = 8;
        tuning.attention_split_many = 1;
    }
    return tuning;
}

}  // namespace m4::ops
