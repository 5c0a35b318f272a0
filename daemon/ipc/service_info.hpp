// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "engine/engine.hpp"

namespace m4::ipc {

/// What the service is and serves; constant once it listens, save model_state.
struct ServiceInfo {
    std::string server_version;
    engine::DeviceReport device;
    std::string kv_cache_type;  ///< "f16", "q8" or "f32"
    std::uint64_t start_to_ready_ms = 0;

    std::string model_name;
    std::string model_version;
    std::string architecture;
    std::array<std::uint8_t, 32> digest{};
    std::array<std::uint8_t, 32> root{};
    std::array<std::uint8_t, 32> source_digest{};
    std::string source;                 ///< "device" or "folder"
    std::string signer;                 ///< as the kernel tells it; empty: a folder
    std::uint64_t generation = 0;       ///< likewise; 0: a folder
    bool development = false;           ///< a development key signed it
    std::string model_state = "ready";  ///< or "revoked", "draining"
    std::uint64_t rollback_index = 0;
    std::uint64_t parameters = 0;
    std::uint64_t payload_bytes = 0;
    std::uint32_t context_length = 0;
    std::uint32_t vocabulary = 0;
    std::int32_t bos_id = -1;
    std::int32_t eos_id = -1;
};

}  // namespace m4::ipc
