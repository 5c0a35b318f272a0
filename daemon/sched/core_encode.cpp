// SPDX-License-Identifier: MIT
// Encode requests: who may ask, whose items run together, and rows that go behind a
// session's tokens.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "sched/core.hpp"

namespace m4::sched {
namespace {

std::string tokens_text(std::size_t count) {
    return std::to_string(count) + " tokens";
}

/// Which of the parts' inputs it has: they do not mix in a run.
bool of_tokens(const Encoding& encoding) {
    return !encoding.what().tokens.empty();
}

}  // namespace

void Core::handle(const ClientState& client, RequestId request, Encode what) {
    Admission refusal = admit_encoding(client, what.features);
    Session* session = nullptr;
    if (!refusal && what.target) {
        session = idle_session(client, request, what.target->session);
        if (session == nullptr) {
            return;
        }
        refusal = admit_rows(*session, what.target->rows);
    }
    if (refusal) {
        emit(client.who.id, request, std::move(*refusal));
        return;
    }
    if (session != nullptr) {
        session->active = true;
    }
    encodings_.push_back(std::make_unique<Encoding>(client.who.id, request, std::move(what)));
    inputs_reused_ += encodings_.back()->what().items.size() - encodings_.back()->encoded_inputs();
    finish_encodings();  // all of it may be known
}

/// As any request, and what its features take beside those that wait already.
Core::Admission Core::admit_encoding(const ClientState& client,
                                     const std::vector<float>& features) const {
    if (Admission refusal = admit_work(client)) {
        return refusal;
    }
    const std::uint64_t wanted = features.size() * sizeof(float);
    std::uint64_t of_uid = wanted;
    std::uint64_t all = wanted;
    const auto count = [&](const auto& requests) {
        for (const auto& request : requests) {
            const std::uint64_t bytes = request->what().features.size() * sizeof(float);
            of_uid += uid_of(request->client()) == client.who.uid ? bytes : 0;
            all += bytes;
        }
    };
    count(encodings_);
    count(transcribings_);
    if (of_uid > limits_.features_per_uid) {
        return Failure{M4_E_QUOTA,
                       "inputs of a user may take " + std::to_string(limits_.features_per_uid) +
                           " bytes while they wait, once they are prepared",
                       retry_after_ms()};
    }
    if (all > limits_.features_total) {
        return Failure{M4_E_BUSY, "the service has all the inputs it takes", retry_after_ms()};
    }
    return std::nullopt;
}

/// Whether the session has room for the rows, and its client for their bytes.
Core::Admission Core::admit_rows(const Session& session, std::uint32_t rows) const {
    if (rows > session.capacity - session.position()) {
        return Failure{M4_E_CONTEXT_FULL,
                       "the input takes the place of " + tokens_text(rows) + ": " +
                           std::to_string(session.position()) + " of " +
                           tokens_text(session.capacity) + " are in use",
                       0};
    }
    std::uint64_t held = rows;
    for (const auto& [id, other] : sessions_) {
        held += other.client == session.client ? other.rows.size() : 0;
    }
    if (held * backend_->embedded_columns() * sizeof(float) > limits_.row_bytes_per_client) {
        return Failure{M4_E_QUOTA,
                       "a connection's sessions may hold " +
                           std::to_string(limits_.row_bytes_per_client) +
                           " bytes of inputs that are no text",
                       0};
    }
    return std::nullopt;
}

/// One run of one part: the request that waited longest, and items of others that
/// want the same. Others' steps come in between. False: nothing is to be encoded.
bool Core::encode_slice() {
    if (encodings_.empty()) {
        return false;
    }
    ++slice_number_;
    Encoding& first = **std::ranges::min_element(
        encodings_, {}, [](const auto& encoding) { return encoding->turn; });
    struct Taken {
        Encoding* encoding;
        std::uint32_t count;
    };
    std::vector<Taken> taken;
    std::uint32_t room = engine::Senses::kMaxItems;
    const auto take = [&](Encoding& encoding) {
        const std::uint32_t count = std::min(room, encoding.items_left());
        if (count != 0) {
            taken.push_back({&encoding, count});
            room -= count;
            encoding.turn = slice_number_;
        }
    };
    take(first);
    for (const auto& encoding : encodings_) {
        if (encoding.get() != &first && encoding->part() == first.part() &&
            of_tokens(*encoding) == of_tokens(first)) {
            take(*encoding);
        }
    }
    std::vector<float> features;
    std::vector<std::uint32_t> tokens;
    std::vector<std::uint32_t> picked;
    std::uint32_t items = 0;
    for (const Taken& some : taken) {
        items += some.count;
        const auto append = [](auto& all, const auto& more) {
            all.insert(all.end(), more.begin(), more.end());
        };
        if (of_tokens(first)) {
            append(tokens, some.encoding->tokens(some.count));
            append(picked, some.encoding->picked(some.count));
        } else if (taken.size() > 1) {
            append(features, some.encoding->features(some.count));
        }
    }
    try {
        const engine::Encoded encoded =
            of_tokens(first) ? backend_->encode_text(first.part(), tokens, picked)
            : taken.size() > 1
                ? backend_->encode(first.part(), features)
                : backend_->encode(first.part(), taken[0].encoding->features(taken[0].count));
        std::uint32_t done = 0;
        for (const Taken& some : taken) {
            const auto all = output_of(encoded, some.encoding->what().output);
            const std::size_t width = all.size() / items;
            some.encoding->accept(all.subspan(done * width, some.count * width), some.count);
            done += some.count;
        }
    } catch (const std::invalid_argument& error) {
        // A defect above the engine, which is as it was.
        for (const Taken& some : taken) {
            end_encoding(*some.encoding, Failure{M4_E_INTERNAL, error.what(), 0});
        }
    }
    finish_encodings();
    return true;
}

/// What is done is answered, or goes on as a projector's input.
void Core::finish_encodings() {
    for (auto& encoding : encodings_) {
        if (encoding == nullptr || !encoding->done()) {
            continue;
        }
        const Encode& what = encoding->what();
        encoding->keep_results();
        inputs_encoded_ += encoding->encoded_inputs();
        if (!what.target) {
            const auto inputs = static_cast<std::uint32_t>(what.items.size());
            end_encoding(*encoding, Encoded{what.part_name, inputs, encoding->take_results()});
        } else if (what.part != what.target->projector) {
            Encode next;
            next.part = what.target->projector;
            next.output = EncodeOutput::hidden;
            next.target = what.target;
            next.items = {1};
            next.features = encoding->take_results();
            const std::uint64_t turn = encoding->turn;
            encoding = std::make_unique<Encoding>(encoding->client(), encoding->request(),
                                                  std::move(next));
            encoding->turn = turn;
        } else {
            append_rows(*encoding);
        }
    }
    std::erase(encodings_, nullptr);
}

/// The projector's rows behind the session's tokens, which stayed as they were.
void Core::append_rows(Encoding& encoding) {
    Session& session = sessions_.at(encoding.what().target->session);
    session.append_rows(encoding.take_results(), backend_->embedded_columns());
    end_encoding(encoding, SessionState{session.id, session.position(), session.capacity});
}

/// It is null among the others on return, its session free.
void Core::end_encoding(Encoding& encoding, Outcome outcome) {
    if (encoding.what().target) {
        if (const auto session = sessions_.find(encoding.what().target->session);
            session != sessions_.end()) {
            session->second.active = false;
        }
    }
    emit(encoding.client(), encoding.request(), std::move(outcome));
    const auto own = std::ranges::find_if(
        encodings_, [&](const auto& other) { return other.get() == &encoding; });
    own->reset();
}

void Core::cancel_encodings(const std::function<bool(const Encoding&)>& which) {
    for (auto& encoding : encodings_) {
        if (encoding != nullptr && which(*encoding)) {
            end_encoding(*encoding, Failure{M4_E_CANCELLED, "the request was cancelled", 0});
        }
    }
    std::erase(encodings_, nullptr);
}

}  // namespace m4::sched
