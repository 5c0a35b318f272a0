// SPDX-License-Identifier: MIT
#include "kv_pool.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

namespace m4::engine {

KvPool::KvPool(std::uint64_t pool_units, std::uint32_t position_units)
    : position_units_(std::max(position_units, 1U)) {
    // Kernels address units with 32 bits, some with a sign.
    constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();
    if (pool_units != 0) {
        gaps_[0] = std::min(pool_units, kMost);
    }
}

std::optional<KvPool::Region> KvPool::allocate(std::uint32_t positions) {
    const std::uint64_t rounded = (std::uint64_t{positions} + kPositionAlignment - 1) /
                                  kPositionAlignment * kPositionAlignment;
    const std::uint64_t units = rounded * position_units_;
    const auto gap = std::find_if(gaps_.begin(), gaps_.end(),
                                  [&](const auto& entry) { return entry.second >= units; });
    if (units == 0 || gap == gaps_.end()) {
        return std::nullopt;
    }
    const auto [first, size] = *gap;
    gaps_.erase(gap);
    if (size > units) {
        gaps_[first + units] = size - units;
    }
    used_ += units;
    return Region{static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(rounded), units};
}

void KvPool::free(const Region& region) noexcept {
    used_ -= region.units;
    auto gap = gaps_.emplace(region.first_unit, region.units).first;
    if (const auto next = std::next(gap);
        next != gaps_.end() && gap->first + gap->second == next->first) {
        gap->second += next->second;
        gaps_.erase(next);
    }
    if (gap != gaps_.begin()) {
        if (const auto previous = std::prev(gap);
            previous->first + previous->second == gap->first) {
            previous->second += gap->second;
            gaps_.erase(gap);
        }
    }
}

}  // namespace m4::engine
