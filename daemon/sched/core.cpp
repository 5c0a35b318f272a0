// SPDX-License-Identifier: MIT
// Clients, and the step: who gets rows, and what becomes of the logits.
#include "sched/core.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace m4::sched {
namespace {

// What a queued piece costs beside its text: its frame and its bookkeeping.
constexpr std::uint64_t kPieceBytes = 96;

/// Only what a running request produces by itself is charged: one answer to
/// one request is bounded by the number of requests in flight.
std::uint64_t charge_of(const Outcome& outcome) {
    if (const auto* piece = std::get_if<Piece>(&outcome)) {
        return kPieceBytes + piece->text.size() + piece->ids.size() * sizeof(std::uint32_t);
    }
    if (const auto* part = std::get_if<TranscriptPart>(&outcome)) {
        return kPieceBytes + part->text.size() + part->ids.size() * sizeof(std::uint32_t);
    }
    if (const auto* rows = std::get_if<ScoreRows>(&outcome)) {
        return kPieceBytes + rows->token_logprobs.size() * sizeof(float) +
               rows->top_ids.size() * (sizeof(std::uint32_t) + sizeof(float));
    }
    return 0;
}

/// Of an image without a backbone these find nothing to work on.
bool needs_backbone(const Request& what) {
    return std::holds_alternative<CreateSession>(what) || std::holds_alternative<Score>(what) ||
           std::holds_alternative<RunBench>(what);
}

/// Who only looks or lets go is served to the end.
bool needs_engine(const Request& what) {
    return !std::holds_alternative<ReadFigures>(what) &&
           !std::holds_alternative<ListSessions>(what) &&
           !std::holds_alternative<InspectSession>(what) &&
           !std::holds_alternative<CloseSession>(what);
}

}  // namespace

Core::Core(Backend& backend, const TextModel& text, const Limits& limits)
    : backend_(&backend), text_(&text), limits_(limits) {
    if (backend.max_step_rows() < kMinStepRows) {
        throw std::invalid_argument("a step needs at least " + std::to_string(kMinStepRows) +
                                    " rows");
    }
}

void Core::client_joined(Client client) {
    const ClientId id = client.id;
    clients_.emplace(id, ClientState{std::move(client)});
}

void Core::client_left(ClientId client) {
    if (bench_ != nullptr && bench_->client() == client) {
        bench_.reset();
    }
    std::erase_if(works_, [&](const auto& work) { return work->client() == client; });
    std::erase_if(encodings_, [&](const auto& encoding) { return encoding->client() == client; });
    std::erase_if(transcribings_, [&](const auto& one) { return one->client() == client; });
    std::erase_if(sessions_, [&](const auto& entry) { return entry.second.client == client; });
    clients_.erase(client);
}

void Core::submit(ClientId client, RequestId request, Request what, Clock::time_point arrived) {
    const auto found = clients_.find(client);
    if (found == clients_.end()) {
        return;
    }
    if (lost_ && needs_engine(what)) {
        emit(client, request, *lost_);
        return;
    }
    if (backend_->context_length() == 0 && needs_backbone(what)) {
        fail(client, request, M4_E_UNSUPPORTED, "the image has no backbone: it only encodes");
        return;
    }
    arrived_ = arrived;
    try {
        std::visit([&](auto& typed) { handle(found->second, request, std::move(typed)); }, what);
    } catch (const engine::DeviceError& error) {
        fail(client, request, M4_E_GPU_LOST, error.what());
        lose_engine(M4_E_GPU_LOST, error.what());
    }
    // A generate request may end without a step.
    drop_finished();
}

void Core::cancel(ClientId client, RequestId request) {
    for (const auto& work : works_) {
        if (work->client() == client && work->request() == request) {
            emit(client, request, work->cancelled());
        }
    }
    if (bench_ != nullptr && bench_->client() == client && bench_->request() == request) {
        end_bench(Failure{M4_E_CANCELLED, "the bench was cancelled", 0});
    }
    cancel_encodings([&](const Encoding& encoding) {
        return encoding.client() == client && encoding.request() == request;
    });
    cancel_transcribings([&](const Transcribing& one) {
        return one.client() == client && one.request() == request;
    });
    drop_finished();
}

void Core::cancel_all() {
    end_bench(Failure{M4_E_CANCELLED, "the bench was cancelled", 0});
    cancel_encodings([](const Encoding&) { return true; });
    cancel_transcribings([](const Transcribing&) { return true; });
    for (const auto& work : works_) {
        emit(work->client(), work->request(), work->cancelled());
    }
    drop_finished();
}

void Core::delivered(ClientId client, std::uint64_t bytes) {
    if (const auto found = clients_.find(client); found != clients_.end()) {
        found->second.unread_bytes -= std::min(found->second.unread_bytes, bytes);
    }
}

bool Core::step() {
    if (lost_ ||
        (works_.empty() && bench_ == nullptr && encodings_.empty() && transcribings_.empty())) {
        return false;
    }
    bool worked = true;
    try {
        const bool stepped = work_step();
        const bool encoded = encode_slice();
        const bool transcribed = transcribe_slice();
        worked = bench_slice() || stepped || encoded || transcribed;
    } catch (const trust::RevokedError& error) {
        revoke(error.what());
    } catch (const engine::DeviceError& error) {
        lose_engine(M4_E_GPU_LOST, error.what());
    } catch (const std::exception& error) {
        // Nothing below is known to be whole any more.
        lose_engine(M4_E_INTERNAL, error.what());
    }
    drop_finished();
    return worked;
}

/// One step of the requests. False: none of them can run now.
bool Core::work_step() {
    const std::vector<Share> shares = plan();
    if (shares.empty()) {
        return refuse_for_pages();
    }
    run(shares);
    return true;
}

bool Core::warm_up() {
    if (lost_) {
        return false;
    }
    try {
        return backend_->warm_up();
    } catch (const trust::RevokedError& error) {
        revoke(error.what());
    } catch (const engine::DeviceError& error) {
        lose_engine(M4_E_GPU_LOST, error.what());
    }
    return false;
}

std::vector<Share> Core::plan() {
    // Ranks count for pages alone; rows are shared by turns.
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < works_.size(); ++i) {
        if (!paused(works_[i]->client())) {
            order.push_back(i);
        }
    }
    std::ranges::sort(order, {}, [&](std::size_t i) { return works_[i]->rank(); });
    std::vector<Candidate> candidates;
    std::uint32_t promised = 0;
    for (const std::size_t i : order) {
        Work& work = *works_[i];
        const ClientState& client = clients_.at(work.client());
        Candidate candidate;
        candidate.rows_wanted = rows_with_pages(work, promised);
        if (candidate.rows_wanted == 0) {
            continue;
        }
        candidate.index = i;
        candidate.client = work.client();
        candidate.decoding = work.decoding();
        candidate.turn = work.turn();
        candidate.client_turn = candidate.decoding ? client.decode_turn : client.prefill_turn;
        candidates.push_back(candidate);
    }
    std::vector<Share> shares = plan_step(candidates, backend_->max_step_rows());
    keep_to_adapter_pool(shares);
    return shares;
}

void Core::run(const std::vector<Share>& shares) {
    ++step_number_;
    std::vector<engine::Chunk> chunks;
    chunks.reserve(shares.size());
    std::vector<std::vector<engine::EmbeddedRow>> embedded;
    embedded.reserve(shares.size());
    for (const Share& share : shares) {
        Work& work = *works_[share.index];
        ClientState& client = clients_.at(work.client());
        (work.decoding() ? client.decode_turn : client.prefill_turn) = step_number_;
        work.take_turn(step_number_);
        tokens_prompt_ += work.decoding() ? 0 : share.rows;
        Session& session = work.session();
        session.last_used = step_number_;
        const auto& rows = embedded.emplace_back(session.missing_rows(share.rows));
        chunks.push_back(
            {session.sequence.get(), session.missing().first(share.rows),
             work.logits_of(share.rows), rows,
             session.computed_with == nullptr ? nullptr : session.computed_with->packed.get()});
    }
    const std::uint32_t passes = passes_for(shares);
    const auto before = Clock::now();
    std::span<const float> logits;
    try {
        logits = backend_->step(chunks, passes);
    } catch (const std::invalid_argument& error) {
        // A defect above the engine, which is as it was.
        for (const Share& share : shares) {
            Work& work = *works_[share.index];
            fail(work.client(), work.request(), M4_E_INTERNAL, error.what());
            work.end();
        }
        return;
    }
    const std::chrono::duration<double, std::milli> took = Clock::now() - before;
    step_ms_ += (took.count() - step_ms_) / 8;

    commit(shares, chunks, passes, logits);
}

/// Several where a step is greedy decoding and nothing else, and nobody waits to
/// join it.
std::uint32_t Core::passes_for(const std::vector<Share>& shares) const {
    std::uint32_t passes = backend_->most_passes();
    std::uint32_t pages = 0;
    for (const Share& share : shares) {
        Work& work = *works_[share.index];
        const Session& session = work.session();
        if (!work.decoding() || work.logits_of(1) != engine::Logits::greedy) {
            return 1;
        }
        // The last token of a full session is never fed.
        passes = std::min(passes, session.capacity - session.position());
    }
    for (const Share& share : shares) {
        pages += works_[share.index]->session().sequence->pages_needed(passes);
    }
    const auto running = static_cast<std::size_t>(
        std::ranges::count_if(works_, [&](const auto& work) { return !paused(work->client()); }));
    return running == shares.size() && pages <= backend_->kv_use().free() ? std::max(passes, 1U)
                                                                          : 1;
}

void Core::commit(const std::vector<Share>& shares, std::span<const engine::Chunk> chunks,
                  std::uint32_t passes, std::span<const float> logits) {
    const auto greedy = static_cast<std::size_t>(
        std::ranges::count(chunks, engine::Logits::greedy, &engine::Chunk::logits));
    std::size_t next_id = 0;
    std::span<const engine::Candidate> candidates = backend_->candidates();
    const std::uint32_t each = backend_->most_candidates();
    std::vector<Outcome> outcomes;
    for (std::size_t i = 0; i < shares.size(); ++i) {
        Work& work = *works_[shares[i].index];
        const engine::Logits wanted = chunks[i].logits;
        const std::size_t floats =
            backend_->vocabulary() * (wanted == engine::Logits::all    ? shares[i].rows
                                      : wanted == engine::Logits::last ? 1U
                                                                       : 0U);
        const std::uint64_t before = work.session().tokens_generated;
        work.advance(shares[i].rows, logits.first(floats), outcomes);
        logits = logits.subspan(floats);
        if (wanted == engine::Logits::top) {
            work.choose(candidates.first(each), outcomes);
            candidates = candidates.subspan(each);
        }
        if (wanted == engine::Logits::greedy) {
            const auto ids = backend_->ids();
            for (std::uint32_t pass = 0; pass < passes && !work.finished(); ++pass) {
                work.accept(ids[next_id + pass * greedy], outcomes);
            }
            ++next_id;
            // What was computed past its end.
            Session& session = work.session();
            session.sequence->rewind(std::min(session.sequence->length(), session.position()));
        }
        tokens_generated_ += work.session().tokens_generated - before;
        for (Outcome& outcome : outcomes) {
            emit(work.client(), work.request(), std::move(outcome));
        }
        outcomes.clear();
    }
}

void Core::fail_all(int code, const std::string& message) {
    lost_ = Failure{code, message, 0};
    for (const auto& work : works_) {
        emit(work->client(), work->request(), *lost_);
    }
    works_.clear();
    for (const auto& encoding : encodings_) {
        emit(encoding->client(), encoding->request(), *lost_);
    }
    encodings_.clear();
    for (const auto& one : transcribings_) {
        emit(one->client(), one->request(), *lost_);
    }
    transcribings_.clear();
    end_bench(*lost_);
}

void Core::lose_engine(int code, const std::string& message) {
    fail_all(code, message);
    emit(0, 0, DeviceLost{message});
}

void Core::revoke(const std::string& message) {
    if (!lost_) {
        fail_all(M4_E_VERIFY, message);
        emit(0, 0, ImageRevoked{message});
    }
}

void Core::drop_finished() {
    std::erase_if(works_, [](const auto& work) { return work->finished(); });
}

bool Core::paused(ClientId client) const {
    return clients_.at(client).unread_bytes >= limits_.unread_bytes;
}

void Core::emit(ClientId client, RequestId request, Outcome outcome) {
    const std::uint64_t charged = charge_of(outcome);
    if (charged > 0) {
        clients_.at(client).unread_bytes += charged;
    }
    completions_.push_back({client, request, std::move(outcome), charged});
}

void Core::fail(ClientId client, RequestId request, int code, std::string message,
                std::uint32_t retry_ms) {
    emit(client, request, Failure{code, std::move(message), retry_ms});
}

Snapshot Core::snapshot() const {
    Snapshot snapshot;
    snapshot.kv = backend_->kv_use();
    snapshot.tokens_prompt = tokens_prompt_;
    snapshot.tokens_generated = tokens_generated_;
    snapshot.cold = backend_->warm_ups_left();
    snapshot.sessions = static_cast<std::uint32_t>(sessions_.size());
    for (const auto& work : works_) {
        ++(work->started() ? snapshot.requests_active : snapshot.requests_queued);
    }
    for (const auto& encoding : encodings_) {
        ++(encoding->turn != 0 ? snapshot.requests_active : snapshot.requests_queued);
    }
    for (const auto& one : transcribings_) {
        ++(one->turn != 0 ? snapshot.requests_active : snapshot.requests_queued);
    }
    snapshot.requests_active += bench_ != nullptr ? 1 : 0;
    snapshot.senses_bytes = backend_->senses_bytes();
    snapshot.inputs_encoded = inputs_encoded_;
    snapshot.inputs_reused = inputs_reused_;
    snapshot.adapter_use = backend_->adapter_use();
    snapshot.adapters = adapter_figures();
    return snapshot;
}

std::uint32_t Core::retry_after_ms() const {
    std::uint64_t rows = 0;
    for (const auto& work : works_) {
        const Session& session = work->session();
        rows += session.tokens.size() - session.sequence->length();
    }
    const double steps = 1 + static_cast<double>(rows) / backend_->max_step_rows();
    return static_cast<std::uint32_t>(std::clamp(steps * step_ms_, 10.0, 10'000.0));
}

}  // namespace m4::sched
