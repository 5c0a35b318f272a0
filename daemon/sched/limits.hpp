// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>

namespace m4::sched {

/// What the scheduler admits. docs/m4d.md lists these numbers; a test that
/// wants others passes its own.
struct Limits {
    std::uint32_t sessions_per_client = 16;
    std::uint32_t sessions_per_uid = 64;
    std::uint32_t sessions_total = 256;
    /// Requests that wait or run: generate, score, encode, transcribe.
    std::uint32_t requests_per_client = 8;
    std::uint32_t requests_per_uid = 32;
    std::uint32_t requests_total = 128;
    /// Bytes of replies a client has not read yet at which its requests pause.
    std::uint64_t unread_bytes = 128U << 10;
    /// Bytes of score rows that one step may produce for one request.
    std::uint64_t score_step_bytes = 256U << 10;
    /// Bytes of prepared inputs that wait or run.
    std::uint64_t features_per_uid = 256U << 20;
    std::uint64_t features_total = 512U << 20;
    /// Bytes of rows of other senses in a client's sessions.
    std::uint64_t row_bytes_per_client = 64U << 20;
    /// Tokens that a bench may decode, and time of the device that it may take
    /// before it makes do with the samples it has.
    std::uint32_t bench_tokens = 1024;
    std::uint32_t bench_ms = 20'000;
    std::size_t stop_texts = 16;
    std::size_t stop_text_bytes = 256;
};

/// Fewer rows a step cannot serve decoding and prefill together.
inline constexpr std::uint32_t kMinStepRows = 4;

}  // namespace m4::sched
