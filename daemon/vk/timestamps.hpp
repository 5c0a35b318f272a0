// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "device.hpp"

namespace m4::vk {

/// When the device came to certain places of a command buffer: each stamp once
/// everything recorded before it was done. Must not outlive its Device.
class Timestamps {
   public:
    /// Throws DeviceError where the device has none, see known().
    Timestamps(const Device& device, std::uint32_t count);

    [[nodiscard]] static bool known(const Device& device) {
        return device.limits().timestamp_bits != 0 && device.limits().timestamp_ns > 0;
    }

    /// Before any stamp of a recording.
    void reset(const hpp::raii::CommandBuffer& commands) const;
    /// The next one; `count` of them in all.
    void stamp(const hpp::raii::CommandBuffer& commands);
    /// Once the commands ran: microseconds from each stamp to the next.
    [[nodiscard]] std::vector<double> intervals_us() const;

   private:
    hpp::raii::QueryPool pool_ = nullptr;
    std::uint32_t count_;
    std::uint32_t stamped_ = 0;
    std::uint64_t mask_;
    double us_;  ///< of one step of the device's counter
};

}  // namespace m4::vk
