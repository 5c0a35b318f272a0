// SPDX-License-Identifier: MIT
#include "sched/batch.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace m4::sched {
namespace {

/// Longest waiting first; the n-th request of a client behind the (n-1)-th of all.
std::vector<Candidate> fair_order(std::vector<Candidate> candidates) {
    std::ranges::sort(candidates, {}, [](const Candidate& c) { return std::tie(c.turn, c.index); });
    struct Ranked {
        std::size_t rank;
        Candidate candidate;
    };
    std::map<ClientId, std::size_t> seen;
    std::vector<Ranked> ranked;
    ranked.reserve(candidates.size());
    for (const Candidate& candidate : candidates) {
        ranked.push_back({seen[candidate.client]++, candidate});
    }
    std::ranges::stable_sort(
        ranked, {}, [](const Ranked& r) { return std::tie(r.rank, r.candidate.client_turn); });
    for (std::size_t i = 0; i < ranked.size(); ++i) {
        candidates[i] = ranked[i].candidate;
    }
    return candidates;
}

}  // namespace

std::vector<Share> plan_step(const std::vector<Candidate>& candidates, std::uint32_t max_rows) {
    std::vector<Candidate> decoding;
    std::vector<Candidate> prefilling;
    for (const Candidate& candidate : candidates) {
        (candidate.decoding ? decoding : prefilling).push_back(candidate);
    }
    const std::uint32_t kept = prefilling.empty() ? 0 : max_rows / 4;
    std::uint32_t left = max_rows;
    std::vector<Share> shares;
    for (const Candidate& candidate : fair_order(std::move(decoding))) {
        if (left <= kept) {
            break;
        }
        shares.push_back({candidate.index, 1});
        --left;
    }
    for (const Candidate& candidate : fair_order(std::move(prefilling))) {
        const std::uint32_t rows = std::min(left, candidate.rows_wanted);
        if (rows == 0) {
            break;
        }
        shares.push_back({candidate.index, rows});
        left -= rows;
    }
    return shares;
}

}  // namespace m4::sched
