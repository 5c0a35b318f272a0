// SPDX-License-Identifier: MIT
#include "timestamps.hpp"

#include <string>

namespace m4::vk {

namespace {

constexpr std::uint32_t kWholeBits = 64;

}  // namespace

Timestamps::Timestamps(const Device& device, std::uint32_t count)
    : count_(count),
      mask_(device.limits().timestamp_bits >= kWholeBits
                ? ~std::uint64_t{0}
                : (std::uint64_t{1} << device.limits().timestamp_bits) - 1),
      us_(device.limits().timestamp_ns / 1000) {
    if (!known(device)) {
        throw DeviceError("the device's compute queue has no timestamps");
    }
    pool_ = hpp::raii::QueryPool(
        device.handle(),
        hpp::QueryPoolCreateInfo{.queryType = hpp::QueryType::eTimestamp, .queryCount = count});
}

void Timestamps::reset(const hpp::raii::CommandBuffer& commands) const {
    commands.resetQueryPool(*pool_, 0, count_);
}

void Timestamps::stamp(const hpp::raii::CommandBuffer& commands) {
    if (stamped_ == count_) {
        throw DeviceError("a recording has more timestamps than were asked for");
    }
    commands.writeTimestamp(hpp::PipelineStageFlagBits::eBottomOfPipe, *pool_, stamped_++);
}

std::vector<double> Timestamps::intervals_us() const {
    std::vector<double> intervals;
    if (stamped_ < 2) {
        return intervals;
    }
    const std::size_t bytes = stamped_ * sizeof(std::uint64_t);
    const auto [result, stamps] = pool_.getResults<std::uint64_t>(
        0, stamped_, bytes, sizeof(std::uint64_t),
        hpp::QueryResultFlagBits::e64 | hpp::QueryResultFlagBits::eWait);
    if (result != hpp::Result::eSuccess) {
        throw DeviceError("the device did not give its timestamps");
    }
    for (std::size_t i = 1; i < stamps.size(); ++i) {
        // The counter may wrap once: valid bits only.
        intervals.push_back(static_cast<double>((stamps[i] - stamps[i - 1]) & mask_) * us_);
    }
    return intervals;
}

}  // namespace m4::vk
