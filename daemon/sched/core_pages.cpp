// SPDX-License-Identifier: MIT
// Pages of the KV cache: who gets them, and from whom, where they are few.
//
// Requests have ranks: of their arrival, and anew for one that lost pages while
// its client did not read. Pages are taken from idle sessions, from requests
// that pause, and from requests of lower rank, never from those of higher rank:
// so the first in rank always goes on to its end, and two requests never take
// each other's. Tokens are kept; what is missing of keys and values is computed
// again.
#include <algorithm>
#include <string>

#include "sched/core.hpp"

namespace m4::sched {
namespace {

/// Drop pages from the sequence's end until the backend has `wanted` free.
/// Without `shared_too` only such as nobody else holds. Whether any was.
bool strip(engine::Sequence& sequence, const Backend& backend, std::uint32_t wanted,
           bool shared_too) {
    const std::uint32_t before = sequence.length();
    while (sequence.length() > 0 && backend.kv_use().free() < wanted &&
           (shared_too || !sequence.last_page_shared())) {
        const std::uint32_t positions = backend.kv_use().page_positions;
        sequence.rewind((sequence.length() - 1) / positions * positions);
    }
    return sequence.length() < before;
}

}  // namespace

/// Take pages back until `wanted` are free, for `taker`. False: there are no
/// more to take.
bool Core::free_pages(std::uint32_t wanted, const Work& taker) {
    const auto enough = [&] { return backend_->kv_use().free() >= wanted; };
    if (enough()) {
        return true;
    }
    // The bench first: it can be run again, and nobody waits for its tokens.
    end_bench(Failure{M4_E_BUSY, "requests need the bench's room in the KV cache: try again later",
                      retry_after_ms()});
    if (enough()) {
        return true;
    }
    std::vector<Session*> idle;
    for (auto& [id, session] : sessions_) {
        if (!session.active) {
            idle.push_back(&session);
        }
    }
    std::ranges::stable_sort(idle, {}, &Session::last_used);
    for (const bool shared_too : {false, true}) {
        for (Session* session : idle) {
            strip(*session->sequence, *backend_, wanted, shared_too);
        }
    }
    std::vector<Work*> others;
    for (const auto& work : works_) {
        if (work.get() != &taker) {
            others.push_back(work.get());
        }
    }
    std::ranges::sort(others, std::ranges::greater{}, &Work::rank);
    for (Work* work : others) {
        if (paused(work->client()) && strip(*work->session().sequence, *backend_, wanted, true)) {
            work->set_rank(++last_rank_);
        }
    }
    for (Work* work : others) {
        if (!paused(work->client()) && work->rank() > taker.rank()) {
            strip(*work->session().sequence, *backend_, wanted, true);
        }
    }
    return enough();
}

/// Rows of the next step that `work` can have pages for, beside the `promised`
/// ones, to which its own are added.
std::uint32_t Core::rows_with_pages(Work& work, std::uint32_t& promised) {
    const engine::Sequence& sequence = *work.session().sequence;
    std::uint32_t rows = std::min(work.rows_wanted(), backend_->max_step_rows());
    (void)free_pages(promised + sequence.pages_needed(rows), work);
    const std::uint32_t free = backend_->kv_use().free();
    while (rows > 0 && promised + sequence.pages_needed(rows) > free) {
        --rows;
    }
    promised += sequence.pages_needed(rows);
    return rows;
}

/// Requests that could run all lack pages, and nobody is left to take some
/// from: the first of them ends. False: there is none.
bool Core::refuse_for_pages() {
    Work* first = nullptr;
    for (const auto& work : works_) {
        if (!paused(work->client()) && (first == nullptr || work->rank() < first->rank())) {
            first = work.get();
        }
    }
    if (first == nullptr) {
        return false;
    }
    const engine::KvUse use = backend_->kv_use();
    fail(first->client(), first->request(), M4_E_BUSY,
         "no room in the KV cache: " + std::to_string(use.used) + " of " +
             std::to_string(use.pages) + " pages are in use and none can be taken back",
         retry_after_ms());
    first->end();
    return true;
}

}  // namespace m4::sched
