// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace m4::sched {

/// Figures for status, as of the last step boundary.
struct Snapshot {
    std::uint64_t kv_used_bytes = 0;
    std::uint64_t tokens_prompt = 0;  ///< appended or scored since start
    std::uint64_t tokens_generated = 0;
    std::uint32_t sessions = 0;
    std::uint32_t requests_active = 0;  ///< have had a step
    std::uint32_t requests_queued = 0;  ///< wait for their first
};

}  // namespace m4::sched
