// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace m4::engine {

/// Regions of the KV pool, in 16-byte units: first fit, neighbours joined when
/// freed. A region's bytes are not cleared: a kernel reads the positions up to
/// its row's own, and each of these was written by the sequence itself before,
/// since a sequence grows without gaps. So no sequence ever sees what another
/// left behind. Engine thread only.
class KvPool {
   public:
    /// Positions a region's capacity is rounded up to.
    static constexpr std::uint32_t kPositionAlignment = 64;

    struct Region {
        std::uint32_t first_unit = 0;
        std::uint32_t positions = 0;  ///< rounded capacity
        std::uint64_t units = 0;
    };

    /// `position_units`: units one position takes in all layers, keys and values.
    KvPool(std::uint64_t pool_units, std::uint32_t position_units);

    /// Room for at least `positions`; nothing when no gap fits.
    [[nodiscard]] std::optional<Region> allocate(std::uint32_t positions);
    void free(const Region& region) noexcept;
    [[nodiscard]] std::uint64_t used_units() const { return used_; }

   private:
    std::map<std::uint64_t, std::uint64_t> gaps_;  // first unit -> units
    std::uint64_t used_ = 0;
    std::uint32_t position_units_;
};

}  // namespace m4::engine
