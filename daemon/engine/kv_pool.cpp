// SPDX-License-Identifier: MIT
#include "kv_pool.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace m4::engine {

KvPool::KvPool(std::uint64_t pool_units, std::uint32_t position_units, std::uint32_t page_positions)
    : page_positions_(page_positions),
      page_units_(std::uint64_t{std::max(position_units, 1U)} * page_positions) {
    // Kernels address units with 32 bits, some with a sign.
    constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();
    const auto pages = static_cast<std::size_t>(std::min(pool_units, kMost) / page_units_);
    holders_.resize(pages);
    for (std::uint32_t page = 0; page < pages; ++page) {
        free_.insert(free_.end(), page);
    }
}

std::uint32_t KvPool::take(std::uint32_t before) {
    if (free_.empty()) {
        throw std::logic_error("the KV pool has no free page");
    }
    const auto next = free_.find(before + 1);
    const auto found = next == free_.end() ? free_.begin() : next;
    const std::uint32_t page = *found;
    free_.erase(found);
    holders_[page] = 1;
    return page;
}

void KvPool::share(std::uint32_t page) {
    if (++holders_[page] == 2) {
        ++shared_;
    }
}

void KvPool::release(std::uint32_t page) {
    const std::uint32_t left = --holders_[page];
    if (left == 1) {
        --shared_;
    } else if (left == 0) {
        free_.insert(page);
    }
}

}  // namespace m4::engine
