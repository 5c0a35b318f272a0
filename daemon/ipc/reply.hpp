// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "adapters/store.hpp"
#include "ipc/service_info.hpp"
#include "protocol/codec.hpp"
#include "sched/completion.hpp"
#include "sched/parts.hpp"
#include "sched/snapshot.hpp"

/// Values to messages: the way back out of the service.
namespace m4::ipc {

struct LoopFigures {
    std::uint64_t uptime_ms = 0;
    std::uint32_t clients = 0;
    std::uint32_t adapters = 0;
};

[[nodiscard]] protocol::Packet error_packet(sched::RequestId request, int code,
                                            const std::string& message,
                                            std::uint32_t retry_after_ms);
[[nodiscard]] protocol::Packet hello_packet(sched::RequestId request, std::uint64_t features,
                                            const ServiceInfo& info);
[[nodiscard]] protocol::Packet status_packet(sched::RequestId request, const ServiceInfo& info,
                                             const sched::Snapshot& snapshot,
                                             const LoopFigures& figures);
[[nodiscard]] protocol::Packet model_packet(sched::RequestId request, const ServiceInfo& info);

[[nodiscard]] protocol::Packet parts_packet(sched::RequestId request, const sched::Parts& parts);
/// A line each.
[[nodiscard]] protocol::Packet labels_packet(sched::RequestId request, const firmware::Part& part);

[[nodiscard]] protocol::Packet adapters_packet(sched::RequestId request,
                                               const std::vector<adapters::Store::Row>& rows,
                                               const sched::Snapshot& snapshot,
                                               std::uint64_t used_bytes, std::uint64_t quota_bytes);
[[nodiscard]] protocol::Packet collected_packet(sched::RequestId request,
                                                const adapters::Store::Removed& removed);
[[nodiscard]] protocol::Packet ok_packet(sched::RequestId request);

/// Usually one; the rows of a score may take several.
[[nodiscard]] std::vector<protocol::Packet> outcome_packets(sched::RequestId request,
                                                            const sched::Outcome& outcome);
/// No more of this request comes after it.
[[nodiscard]] bool is_last(const sched::Outcome& outcome);

}  // namespace m4::ipc
