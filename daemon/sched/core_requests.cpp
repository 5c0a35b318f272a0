// SPDX-License-Identifier: MIT
// Each request as it arrives: admitted, answered at once, or refused with a
// reason.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "sched/core.hpp"
#include "sched/generation.hpp"
#include "sched/scoring.hpp"

namespace m4::sched {
namespace {

SessionState state_of(const Session& session) {
    return {session.id, session.position(), session.capacity};
}

std::string tokens_text(std::size_t count) {
    return std::to_string(count) + " tokens";
}

Failure invalid(std::string why) {
    return {M4_E_INVALID, std::move(why), 0};
}

Failure over_pool(std::size_t tokens, const engine::KvUse& use) {
    return {M4_E_TOO_LARGE,
            "the KV cache has room for " +
                tokens_text(std::size_t{use.pages} * use.page_positions) + " in all, not for " +
                std::to_string(tokens),
            0};
}

}  // namespace

void Core::handle(const ClientState& client, RequestId request, CreateSession what) {
    const std::uint32_t longest = backend_->context_length();
    if (what.capacity > longest) {
        fail(client.who.id, request, M4_E_TOO_LARGE,
             "the model's context is " + tokens_text(longest));
        return;
    }
    if (Admission refusal = admit_session(client)) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    Session session;
    if (!find_adapter(client, request, what.adapter, session.adapter)) {
        return;
    }
    session.capacity = what.capacity == 0 ? longest : what.capacity;
    session.sequence = backend_->create_sequence(session.capacity);
    if (session.sequence == nullptr) {
        emit(client.who.id, request, over_pool(session.capacity, backend_->kv_use()));
        return;
    }
    add_session(client, request, std::move(session));
}

/// Tokens, and keys and values as far as the original has them; not its past.
void Core::handle(const ClientState& client, RequestId request, CloneSession what) {
    const Session* original = idle_session(client, request, what.session);
    if (original == nullptr) {
        return;
    }
    if (Admission refusal = admit_session(client)) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    Session session;
    session.capacity = original->capacity;
    session.tokens = original->tokens;
    session.rows = original->rows;
    session.adapter = original->adapter;
    session.computed_with = original->computed_with;
    session.sequence = original->sequence->clone();
    add_session(client, request, std::move(session));
}

void Core::add_session(const ClientState& client, RequestId request, Session session) {
    session.id = next_session_++;
    session.client = client.who.id;
    session.last_used = step_number_;
    emit(client.who.id, request, state_of(session));
    sessions_.emplace(session.id, std::move(session));
}

void Core::add_work(std::unique_ptr<Work> work) {
    work->set_rank(++last_rank_);
    works_.push_back(std::move(work));
}

void Core::handle(const ClientState& client, RequestId request, AppendTokens what) {
    Session* session = idle_session(client, request, what.session);
    if (session == nullptr) {
        return;
    }
    if (Admission refusal = check_ids(what.ids)) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    if (!session->append(what.ids)) {
        fail(client.who.id, request, M4_E_CONTEXT_FULL,
             tokens_text(what.ids.size()) + " do not fit: " + std::to_string(session->position()) +
                 " of " + tokens_text(session->capacity) + " are in use");
        return;
    }
    emit(client.who.id, request, state_of(*session));
}

void Core::handle(const ClientState& client, RequestId request, TruncateSession what) {
    Session* session = idle_session(client, request, what.session);
    if (session == nullptr) {
        return;
    }
    if (what.position > session->position()) {
        emit(client.who.id, request,
             invalid("the session holds only " + tokens_text(session->position())));
        return;
    }
    session->truncate(what.position);
    emit(client.who.id, request, state_of(*session));
}

void Core::handle(const ClientState& client, RequestId request, InspectSession what) {
    const Session* session = find_session(client, what.session);
    if (session == nullptr) {
        fail(client.who.id, request, M4_E_NOT_FOUND, "no such session");
        return;
    }
    emit(client.who.id, request, state_of(*session));
}

void Core::handle(const ClientState& client, RequestId request, CloseSession what) {
    Session* session = find_session(client, what.session);
    if (session == nullptr) {
        fail(client.who.id, request, M4_E_NOT_FOUND, "no such session");
        return;
    }
    for (const auto& work : works_) {
        if (&work->session() == session) {
            emit(work->client(), work->request(), work->cancelled());
        }
    }
    cancel_encodings([&](const Encoding& encoding) {
        return encoding.what().target && encoding.what().target->session == what.session;
    });
    drop_finished();
    sessions_.erase(what.session);
    emit(client.who.id, request, Acknowledged{});
}

void Core::handle(const ClientState& client, RequestId request, ListSessions /*what*/) {
    SessionTable table;
    for (const auto& [id, session] : sessions_) {
        const Client& owner = clients_.at(session.client).who;
        if (client.who.uid != 0 && client.who.uid != owner.uid) {
            continue;
        }
        table.rows.push_back({id, owner.uid, owner.pid, session.position(), session.capacity,
                              session.tokens_generated, session.active, owner.name});
    }
    emit(client.who.id, request, std::move(table));
}

void Core::handle(const ClientState& client, RequestId request, ReadFigures /*what*/) {
    emit(client.who.id, request, snapshot());
}

void Core::handle(const ClientState& client, RequestId request, Generate what) {
    Session* session = idle_session(client, request, what.session);
    if (session == nullptr) {
        return;
    }
    Admission refusal = check(what);
    if (!refusal && session->tokens.empty()) {
        refusal = invalid("the session is empty: append something first");
    }
    if (!refusal) {
        refusal = admit_work(client);
    }
    if (refusal) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    std::shared_ptr<LoadedAdapter> adapter = session->adapter;
    if (what.adapter.digest && !find_adapter(client, request, what.adapter, adapter)) {
        return;
    }
    session->compute_with(std::move(adapter));
    auto work = std::make_unique<Generation>(client.who.id, request, arrived_, std::move(what),
                                             *session, *text_, backend_->most_candidates());
    if (work->full()) {
        emit(client.who.id, request, work->finished_as(M4_FINISH_CONTEXT));
        return;
    }
    add_work(std::move(work));
}

void Core::handle(const ClientState& client, RequestId request, Score what) {
    const std::uint32_t longest = backend_->context_length();
    Admission refusal = check_ids(what.ids);
    if (what.ids.empty()) {
        refusal = invalid("nothing to score");
    } else if (what.ids.size() > longest) {
        refusal = Failure{M4_E_TOO_LARGE, "the model's context is " + tokens_text(longest), 0};
    } else if (what.top_n > backend_->vocabulary()) {
        refusal =
            invalid("top_n is over the vocabulary of " + std::to_string(backend_->vocabulary()));
    }
    if (!refusal) {
        refusal = admit_work(client);
    }
    if (refusal) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    std::shared_ptr<LoadedAdapter> adapter;
    if (!find_adapter(client, request, what.adapter, adapter)) {
        return;
    }
    const auto tokens = static_cast<std::uint32_t>(what.ids.size());
    auto sequence = backend_->create_sequence(tokens);
    if (sequence == nullptr) {
        emit(client.who.id, request, over_pool(tokens, backend_->kv_use()));
        return;
    }
    add_work(std::make_unique<Scoring>(client.who.id, request, arrived_, std::move(what),
                                       std::move(sequence), std::move(adapter),
                                       backend_->vocabulary(), limits_.score_step_bytes));
}

Core::Admission Core::admit_session(const ClientState& client) const {
    if (refusing_) {
        return Failure{M4_E_UNAVAILABLE, "the service is stopping", 0};
    }
    const auto count_where = [&](auto&& wanted) {
        return static_cast<std::size_t>(std::ranges::count_if(
            sessions_, [&](const auto& entry) { return wanted(entry.second.client); }));
    };
    if (count_where([&](ClientId id) { return id == client.who.id; }) >=
        limits_.sessions_per_client) {
        return Failure{
            M4_E_QUOTA,
            "a connection may hold " + std::to_string(limits_.sessions_per_client) + " sessions",
            0};
    }
    if (count_where([&](ClientId id) { return uid_of(id) == client.who.uid; }) >=
        limits_.sessions_per_uid) {
        return Failure{M4_E_QUOTA,
                       "a user may hold " + std::to_string(limits_.sessions_per_uid) + " sessions",
                       0};
    }
    if (sessions_.size() >= limits_.sessions_total) {
        return Failure{M4_E_BUSY, "all sessions of the service are in use", retry_after_ms()};
    }
    return std::nullopt;
}

Core::Admission Core::admit_work(const ClientState& client) const {
    if (refusing_) {
        return Failure{M4_E_UNAVAILABLE, "the service is stopping", 0};
    }
    std::size_t own = 0;
    std::size_t of_uid = 0;
    std::size_t all = 0;
    const auto count = [&](const auto& requests) {
        for (const auto& request : requests) {
            own += request->client() == client.who.id ? 1 : 0;
            of_uid += uid_of(request->client()) == client.who.uid ? 1 : 0;
            ++all;
        }
    };
    count(works_);
    count(encodings_);
    count(transcribings_);
    if (own >= limits_.requests_per_client) {
        return Failure{M4_E_QUOTA,
                       "a connection may run " + std::to_string(limits_.requests_per_client) +
                           " requests at a time",
                       retry_after_ms()};
    }
    if (of_uid >= limits_.requests_per_uid) {
        return Failure{
            M4_E_QUOTA,
            "a user may run " + std::to_string(limits_.requests_per_uid) + " requests at a time",
            retry_after_ms()};
    }
    if (all >= limits_.requests_total) {
        return Failure{M4_E_BUSY, "the service has all the requests it takes", retry_after_ms()};
    }
    return std::nullopt;
}

Core::Admission Core::check(const Generate& what) const {
    const engine::SamplingOptions& sampling = what.sampling;
    if (!std::isfinite(sampling.temperature) || sampling.temperature < 0) {
        return invalid("the temperature is not a number of at least 0");
    }
    if (!std::isfinite(sampling.top_p) || sampling.top_p < 0 || sampling.top_p > 1) {
        return invalid("top_p is not between 0 and 1");
    }
    if (what.stop.size() > limits_.stop_texts) {
        return invalid("more than " + std::to_string(limits_.stop_texts) + " stop texts");
    }
    for (const std::string& stop : what.stop) {
        if (stop.empty() || stop.size() > limits_.stop_text_bytes) {
            return invalid("a stop text is empty or over " +
                           std::to_string(limits_.stop_text_bytes) + " bytes");
        }
        firmware::Utf8Assembler repaired;
        if (repaired.push(stop) + repaired.finish() != stop) {
            return invalid("a stop text is not UTF-8");
        }
    }
    return std::nullopt;
}

Core::Admission Core::check_ids(const std::vector<std::uint32_t>& ids) const {
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] >= backend_->vocabulary()) {
            return invalid("token " + std::to_string(i) + " (" + std::to_string(ids[i]) +
                           ") is not in the vocabulary of " +
                           std::to_string(backend_->vocabulary()));
        }
    }
    return std::nullopt;
}

Session* Core::idle_session(const ClientState& client, RequestId request, SessionId id) {
    Session* session = find_session(client, id);
    if (session == nullptr) {
        fail(client.who.id, request, M4_E_NOT_FOUND, "no such session");
        return nullptr;
    }
    if (session->active) {
        fail(client.who.id, request, M4_E_BUSY, "a request of this session is running",
             retry_after_ms());
        return nullptr;
    }
    return session;
}

Session* Core::find_session(const ClientState& client, SessionId id) {
    const auto found = sessions_.find(id);
    // Another client's session is none: its id is not a secret.
    return found == sessions_.end() || found->second.client != client.who.id ? nullptr
                                                                             : &found->second;
}

uid_t Core::uid_of(ClientId client) const {
    return clients_.at(client).who.uid;
}

}  // namespace m4::sched
