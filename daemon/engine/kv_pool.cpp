// SPDX-License-Identifier: MIT
#include "kv_pool.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace m4::engine {

KvPool::KvPool(std::uint64_t pool_units, std::uint32_t position_units, std::uint32_t page_positions)
    : page_positions_(page_positions),
      page_units_(std::uint64_t{std::max(position_units, 1U)} * page_positions) {
    // Kernels address units with 32 bits, some with a sign.
    constexpr std::uint64_t kMost = std::numeric_limits<std::int32_t>::max();
    const auto pages = static_cast<std::size_t>(std::min(pool_units, kMost) / page_units_);
    holders_.resize(pages);
    free_.resize(pages);
    std::iota(free_.rbegin(), free_.rend(), 0U);  // the first page first
}

std::uint32_t KvPool::take() {
    if (free_.empty()) {
        throw std::logic_error("the KV pool has no free page");
    }
    const std::uint32_t page = free_.back();
    free_.pop_back();
    holders_[page] = 1;
    return page;
}

void KvPool::share(std::uint32_t page) {
    if (++holders_[page] == 2) {
        ++shared_;
    }
}

void KvPool::release(std::uint32_t page) noexcept {
    const std::uint32_t left = --holders_[page];
    if (left == 1) {
        --shared_;
    } else if (left == 0) {
        free_.push_back(page);  // has room: reserved for all pages at once
    }
}

}  // namespace m4::engine
