// SPDX-License-Identifier: MIT
// One filled example of every message, and a reader of every field, for tests
// that must not forget a message.
#pragma once

#include <functional>
#include <map>

#include "protocol/codec.hpp"

namespace m4::test {

/// Makes each message of the schema with every field set.
[[nodiscard]] const std::map<wire::Body, std::function<protocol::Packet(std::uint64_t id)>>&
wire_samples();

/// Reads every byte a decoded frame leads to, and returns a sum of them, which
/// differs when any field does.
[[nodiscard]] std::uint64_t read_every_field(const wire::Frame& frame);

}  // namespace m4::test
