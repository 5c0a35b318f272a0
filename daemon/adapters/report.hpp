// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/image.hpp"
#include "protocol/codec.hpp"

namespace m4::adapters {

/// What a check found of an adapter; docs/protocol.md explains the fields.
struct Report {
    firmware::Digest digest{};
    bool accepted = false;
    bool kept = false;
    std::string reason;
    std::string name, task, prompt_template, base_name, architecture, source;
    firmware::Digest base{};     ///< zeros: unbound
    firmware::Digest present{};  ///< zeros: none
    firmware::Digest probed{};   ///< zeros: none
    firmware::Digest image{};
    std::string part;
    std::uint32_t pairs = 0;
    std::uint32_t matched = 0;
    std::uint32_t acting = 0;
    std::uint32_t rank = 0;
    std::uint32_t labels = 0;
    bool head = false;
    std::uint64_t bytes = 0;
    std::uint64_t device_bytes = 0;
    std::vector<std::string> unmatched;
};

[[nodiscard]] protocol::Packet report_packet(std::uint64_t request, const Report& report);
/// Of a packet's bytes, which nobody vouches for. Throws std::runtime_error.
[[nodiscard]] Report parse_report(std::span<const std::byte> packet);

}  // namespace m4::adapters
