// SPDX-License-Identifier: MIT
#include "adapter_pool.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace m4::engine {

PackedAdapter::PackedAdapter(AdapterPool& pool, std::vector<Unit> units, std::size_t entries)
    : pool_(pool), units_(std::move(units)), covered_(entries) {
    constexpr std::uint32_t kWithHalves = 1;
    constexpr std::uint32_t kWithFloats = 2;
    for (std::size_t i = 0; i < entries; ++i) {
        const std::uint32_t rank = units_[i][2];
        covered_[i] = rank != 0;
        rank_ = std::max(rank_, rank & ~kHalves);
        forms_ |= rank == 0 ? 0 : (rank & kHalves) != 0 ? kWithHalves : kWithFloats;
    }
}

PackedAdapter::~PackedAdapter() {
    pool_.forget(*this);
}

AdapterPool::AdapterPool(const vk::Device& device, std::uint64_t most_bytes)
    : device_(device),
      units_(std::max<std::uint64_t>(
          1,
          std::min({most_bytes / kUnit, device.limits().texel_elements,
                    device.limits().storage_range / kUnit, device.limits().allocation / kUnit}))) {}

bool AdapterPool::ensure_buffer() {
    if (buffer_.size_bytes() != 0) {
        return false;
    }
    using Usage = hpp::BufferUsageFlagBits;
    buffer_ =
        vk::Buffer(device_, units_ * kUnit, Usage::eUniformTexelBuffer | Usage::eStorageBuffer,
                   vk::MemoryKind::upload);
    std::memset(buffer_.mapped().data(), 0, kUnit);
    return true;
}

bool AdapterPool::load(std::span<PackedAdapter* const> wanted) {
    ++clock_;
    for (PackedAdapter* adapter : wanted) {
        adapter->last_used_ = clock_;
    }
    const bool is_new = ensure_buffer();
    for (PackedAdapter* adapter : wanted) {
        while (!adapter->resident()) {
            if (const std::uint32_t first = find_gap(adapter->units_.size()); first != 0) {
                place(*adapter, first);
                break;
            }
            const auto oldest =
                std::min_element(placed_.begin(), placed_.end(), [](const auto& a, const auto& b) {
                    return a.second->last_used_ < b.second->last_used_;
                });
            if (oldest->second->last_used_ == clock_) {
                // Only this step's are left, with gaps between: close ranks.
                while (!placed_.empty()) {
                    evict(*placed_.begin()->second);
                }
                return load(wanted) || is_new;
            }
            evict(*oldest->second);
        }
    }
    return is_new;
}

bool AdapterPool::prefetch(PackedAdapter& adapter) {
    const bool is_new = ensure_buffer();
    if (const std::uint32_t first = find_gap(adapter.units_.size());
        !adapter.resident() && first != 0) {
        adapter.last_used_ = clock_;
        place(adapter, first);
    }
    return is_new;
}

std::uint32_t AdapterPool::find_gap(std::uint64_t units) const {
    std::uint64_t first = 1;
    for (const auto& [begin, adapter] : placed_) {
        if (begin - first >= units) {
            return static_cast<std::uint32_t>(first);
        }
        first = begin + adapter->units_.size();
    }
    return first + units <= units_ ? static_cast<std::uint32_t>(first) : 0;
}

void AdapterPool::place(PackedAdapter& adapter, std::uint32_t first) {
    const auto begin = std::chrono::steady_clock::now();
    const std::span<std::byte> to =
        buffer_.mapped().subspan(first * kUnit, adapter.units_.size() * kUnit);
    std::memcpy(to.data(), adapter.units_.data(), to.size());
    for (std::size_t i = 0; i < adapter.covered_.size(); ++i) {
        PackedAdapter::Unit entry = adapter.units_[i];
        entry[0] += first;
        entry[1] += first;
        std::memcpy(to.data() + i * kUnit, entry.data(), kUnit);
    }
    adapter.place_ = first;
    placed_.emplace(first, &adapter);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    ++use_.loads;
    use_.load_us += took.count();
}

void AdapterPool::evict(PackedAdapter& adapter) {
    forget(adapter);
    adapter.place_ = 0;
    ++use_.evictions;
}

void AdapterPool::forget(const PackedAdapter& adapter) {
    if (adapter.place_ != 0) {
        placed_.erase(adapter.place_);
    }
}

AdapterUse AdapterPool::use() const {
    AdapterUse use = use_;
    use.pool_bytes = buffer_.size_bytes();
    use.resident = static_cast<std::uint32_t>(placed_.size());
    for (const auto& [first, adapter] : placed_) {
        use.used_bytes += adapter->bytes();
    }
    return use;
}

}  // namespace m4::engine
