// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <vector>

#include "linear.hpp"

namespace m4::ops {

/// The largest rank of an adapter.
constexpr std::uint32_t kMostRank = 256;
/// Units of the arena for A x of `rows` rows, whatever linears share a dispatch.
[[nodiscard]] constexpr std::uint64_t low_rank_units(std::uint32_t rows) {
    constexpr std::uint64_t kMostParts = 3;
    return rows * kMostParts * (kMostRank / 4 + 8);
}

/// What the rows' adapters make of a linear job's x, before its own kernel goes on with
/// it: a kernel of the engine's own, of which programs know nothing.
class LowRank {
   public:
    /// `context` outlives it.
    LowRank(const Context& context, const LinearJob& job, shaders::Access access);

    /// False: no row has an adapter for these linears, and nothing was appended. Else
    /// what comes behind needs a barrier before it.
    bool dispatch(const StepShape& shape, std::vector<Dispatch>& out) const;

   private:
    const Context& context_;
    firmware::Dim rows_;
    std::uint32_t first_linear_ = 0;
    std::uint32_t parts_ = 0;
    vk::Kernel* kernel_ = nullptr;  // null: rows of this job have none, ever
    Dispatch dispatch_;
};

}  // namespace m4::ops
