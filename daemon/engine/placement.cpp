// SPDX-License-Identifier: MIT
#include "placement.hpp"

#include <algorithm>
#include <numeric>

namespace m4::engine {

Placement place_values(std::span<const Lifetime> values, std::uint64_t alignment) {
    Placement placement;
    placement.offsets.assign(values.size(), 0);
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return values[a].first < values[b].first;
    });
    std::vector<std::size_t> live;  // by offset
    for (const std::size_t index : order) {
        const Lifetime& value = values[index];
        if (value.size_bytes == 0) {
            continue;
        }
        std::erase_if(live, [&](std::size_t other) { return values[other].last < value.first; });
        std::uint64_t offset = 0;
        auto before = live.begin();
        for (; before != live.end(); ++before) {
            if (offset + value.size_bytes <= placement.offsets[*before]) {
                break;
            }
            const std::uint64_t end = placement.offsets[*before] + values[*before].size_bytes;
            offset = (end + alignment - 1) / alignment * alignment;
        }
        live.insert(before, index);
        placement.offsets[index] = offset;
        placement.size_bytes = std::max(placement.size_bytes, offset + value.size_bytes);
    }
    return placement;
}

}  // namespace m4::engine
