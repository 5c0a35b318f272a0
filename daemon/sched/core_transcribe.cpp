// SPDX-License-Identifier: MIT
// Transcribe requests: who may ask, and whose slice is next.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "sched/core.hpp"

namespace m4::sched {

void Core::handle(const ClientState& client, RequestId request, Transcribe what) {
    if (Admission refusal = admit_encoding(client, what.features)) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    Decoder* decoder = nullptr;
    try {
        decoder = &backend_->decoder(what.decoder);
    } catch (const std::invalid_argument& error) {
        fail(client.who.id, request, M4_E_INTERNAL, error.what());
        return;
    }
    what.beam = std::min(what.beam, decoder->max_step_rows());
    auto made =
        std::make_unique<Transcribing>(client.who.id, request, arrived_, std::move(what), *decoder);
    if (const std::uint32_t has = decoder->kv_use().pages; made->pages() > has) {
        fail(client.who.id, request, M4_E_TOO_LARGE,
             "the request takes " + std::to_string(made->pages()) +
                 " pages of the decoder's cache, which has " + std::to_string(has));
        return;
    }
    transcribings_.push_back(std::move(made));
}

/// A window begins where all its pages are free, so that none is ever taken back.
bool Core::can_run(const Transcribing& one) const {
    if (!one.waits()) {
        return true;
    }
    if (paused(one.client())) {
        return false;
    }
    std::uint32_t promised = one.pages();
    for (const auto& other : transcribings_) {
        if (!other->waits() && other->decoder_part() == one.decoder_part()) {
            promised += other->pages();
        }
    }
    return promised <= backend_->decoder(one.decoder_part()).kv_use().pages;
}

/// A slice of the request that waited longest. False: none can run now.
bool Core::transcribe_slice() {
    Transcribing* next = nullptr;
    for (const auto& one : transcribings_) {
        if (can_run(*one) && (next == nullptr || one->turn < next->turn)) {
            next = one.get();
        }
    }
    if (next == nullptr) {
        return false;
    }
    next->turn = ++slice_number_;
    std::vector<Outcome> outcomes;
    try {
        next->run_slice(*backend_, outcomes);
        for (Outcome& outcome : outcomes) {
            emit(next->client(), next->request(), std::move(outcome));
        }
        if (!next->done()) {
            return true;
        }
    } catch (const media::MediaError& error) {
        fail(next->client(), next->request(), M4_E_INVALID, error.what());
    } catch (const std::invalid_argument& error) {
        // A defect above the engine, which is as it was.
        fail(next->client(), next->request(), M4_E_INTERNAL, error.what());
    }
    std::erase_if(transcribings_, [&](const auto& one) { return one.get() == next; });
    return true;
}

void Core::cancel_transcribings(const std::function<bool(const Transcribing&)>& which) {
    std::erase_if(transcribings_, [&](const auto& one) {
        const bool ends = which(*one);
        if (ends) {
            fail(one->client(), one->request(), M4_E_CANCELLED, "the request was cancelled");
        }
        return ends;
    });
}

}  // namespace m4::sched
