// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sched/request.hpp"

namespace m4::sched {

/// A request that could use rows of the next step.
struct Candidate {
    std::size_t index = 0;  ///< the caller's name for it
    ClientId client = 0;
    bool decoding = false;  ///< wants exactly one row
    std::uint32_t rows_wanted = 0;
    std::uint64_t turn = 0;         ///< step in which it last had rows; 0: never
    std::uint64_t client_turn = 0;  ///< same, of its client, in its phase
};

struct Share {
    std::size_t index = 0;
    std::uint32_t rows = 0;
};

/// Compose one step of at most `max_rows` (>= kMinStepRows) rows.
///
/// Decoding requests get a row each. What is left goes to prefill, the client
/// and request that waited longest first, as much as it can use. A quarter of
/// the rows is kept for prefill when some waits, so that many decoding
/// requests cannot starve a newcomer; decoding requests that found no row are
/// first in the next step. A client's second request comes after every other
/// client's first.
[[nodiscard]] std::vector<Share> plan_step(const std::vector<Candidate>& candidates,
                                           std::uint32_t max_rows);

}  // namespace m4::sched
