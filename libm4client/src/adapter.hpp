// SPDX-License-Identifier: MIT
#pragma once

#include "connection.hpp"
#include "m4client.h"

namespace m4::client {

/// An adapter's name as requests carry it; null: absent. Throws M4_E_VERSION where the
/// service is too old to know adapters: it would answer without one.
[[nodiscard]] flatbuffers::Offset<flatbuffers::Vector<std::uint8_t>> put_adapter(
    const Connection& connection, protocol::Encoder& encoder, const m4_adapter_id* adapter);

}  // namespace m4::client
