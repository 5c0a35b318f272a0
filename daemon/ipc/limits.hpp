// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

namespace m4::ipc {

/// What one client, and all together, may make the loop hold. docs/m4d.md
/// lists these numbers; a test that wants others passes its own.
struct Limits {
    std::size_t clients_total = 64;
    std::size_t clients_per_uid = 32;
    /// Connections that have not said hello, or are being closed.
    std::size_t strangers = 32;
    std::uint64_t hello_timeout_ms = 5000;
    /// How long a connection that is being closed may take to hear why.
    std::uint64_t linger_ms = 1000;
    /// Replies queued for one client at which its requests are no longer read.
    std::size_t outbound_bytes = 512U << 10;
    /// Requests of one client that have not ended at which no more are read.
    std::size_t requests_in_flight = 64;
    std::size_t messages_per_wake = 16;
    std::size_t text_bytes = 1U << 20;
    std::size_t ids = 1U << 18;
    /// Of what is to be encoded, all inputs of a request together; and how many.
    std::size_t media_bytes = 256U << 20;
    std::size_t inputs = 1024;
    std::size_t adapter_bytes = 256U << 20;
    /// Up to here text is tokenised in the loop, above in the text worker.
    std::size_t inline_text_bytes = 8U << 10;
    std::size_t inline_ids = 4096;
    std::size_t client_name_bytes = 31;
    /// After a handover: who is still here by then is sent away.
    std::uint64_t handover_ms = 600'000;
    /// At SIGTERM: what runs may go on so long before it is cancelled ...
    std::uint64_t drain_ms = 2000;
    /// ... and replies may take so long to be read before the loop ends.
    std::uint64_t flush_ms = 1000;
};

}  // namespace m4::ipc
