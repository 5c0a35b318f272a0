// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "engine/engine.hpp"

#include "sched/adapter.hpp"

namespace m4::sched {

/// An adapter that sessions have, or had lately.
struct AdapterFigures {
    AdapterDigest digest{};
    std::uint32_t sessions = 0;
    bool resident = false;  ///< in the device's memory
};

/// Figures for status, as of the last step boundary.
struct Snapshot {
    engine::KvUse kv;
    std::uint64_t tokens_prompt = 0;  ///< computed of contexts and scores since start
    std::uint64_t tokens_generated = 0;
    std::uint32_t sessions = 0;
    std::uint32_t requests_active = 0;  ///< have had a step
    std::uint32_t requests_queued = 0;  ///< wait for their first
    std::uint64_t senses_bytes = 0;     ///< held by encoders beside their weights
    std::uint64_t inputs_encoded = 0;   ///< by encoders, since the start
    std::uint64_t inputs_reused = 0;    ///< not encoded again for the same client
    std::uint32_t cold = 0;             ///< warm-ups still to come
    engine::AdapterUse adapter_use;
    std::vector<AdapterFigures> adapters;
};

}  // namespace m4::sched
