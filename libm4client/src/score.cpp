// SPDX-License-Identifier: MIT
#include <cmath>

#include "adapter.hpp"
#include "boundary.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
using m4::protocol::Encoder;
using m4::protocol::span_of;

namespace {

/// What the caller gets, with the memory its pointers lead to.
struct OwnedScore : m4_score {
    std::vector<float> logprobs;
    std::vector<std::uint32_t> ids;
    std::vector<float> id_logprobs;
};

/// Adds one chunk; false when it is not the next part of the answer.
bool add_chunk(OwnedScore& score, const wire::ScoreChunk& chunk, std::size_t rows,
               std::size_t top_n) {
    const auto logprobs = span_of(chunk.token_logprobs());
    const auto ids = span_of(chunk.top_ids());
    const auto id_logprobs = span_of(chunk.top_logprobs());
    const std::size_t top_at = std::size_t{chunk.first()} * top_n + chunk.top_offset();
    const bool next_row = logprobs.empty() || chunk.first() == score.logprobs.size();
    const bool next_top = ids.empty() || top_at == score.ids.size();
    const bool fits = logprobs.size() <= rows - score.logprobs.size() &&
                      ids.size() <= rows * top_n - score.ids.size();
    if (!next_row || !next_top || !fits || ids.size() != id_logprobs.size()) {
        return false;
    }
    score.logprobs.insert(score.logprobs.end(), logprobs.begin(), logprobs.end());
    score.ids.insert(score.ids.end(), ids.begin(), ids.end());
    score.id_logprobs.insert(score.id_logprobs.end(), id_logprobs.begin(), id_logprobs.end());
    return true;
}

/// Receives the whole answer of request `id`.
void collect(Connection& connection, std::uint64_t id, std::size_t rows, std::size_t top_n,
             Deadline deadline, OwnedScore& score) {
    for (;;) {
        const wire::Frame& frame = connection.await(id, deadline);
        if (frame.body_type() == wire::Body::ScoreDone) {
            break;
        }
        const auto& chunk = connection.reply_as<wire::ScoreChunk>(frame);
        bool added = false;
        try {
            added = add_chunk(score, chunk, rows, top_n);
        } catch (...) {
            connection.give_up(id);
            throw;
        }
        if (!added) {
            connection.fail(M4_E_PROTOCOL, "the service sent scores out of order");
        }
    }
    if (score.logprobs.size() != rows || score.ids.size() != rows * top_n) {
        connection.fail(M4_E_PROTOCOL, "the service ended a score before its last row");
    }
}

}  // namespace

int m4_score_tokens(m4_client* client, const uint32_t* ids, size_t count,
                    const struct m4_score_options* options, struct m4_score** score) {
    return guarded(client, [&] {
        const auto tokens = ids_argument(ids, count);
        const m4_score_options known = read_options(options, "m4_score_options");
        check_pointer(score, "score");
        if (tokens.empty()) {
            throw invalid("there is no token to score");
        }
        Connection& connection = *client->connection;
        const Deadline deadline = connection.deadline();
        auto made = std::make_unique<OwnedScore>();
        const std::uint64_t id = connection.next_id();
        Encoder encoder;
        const auto bulk = encoder.put_ids(tokens);
        const auto adapter = put_adapter(connection, encoder, known.adapter);
        connection.send(encoder.finish(id, wire::CreateScoreRequest(encoder.builder(), bulk,
                                                                    known.top_n, adapter)),
                        deadline);
        collect(connection, id, tokens.size(), known.top_n, deadline, *made);
        made->logprobs.back() = NAN;  // nothing follows the last token
        made->size = sizeof(m4_score);
        made->row_count = tokens.size();
        made->top_n = known.top_n;
        made->token_logprobs = made->logprobs.data();
        made->top_ids = made->ids.data();
        made->top_logprobs = made->id_logprobs.data();
        *score = made.release();
        return M4_OK;
    });
}

void m4_score_free(struct m4_score* score) {
    delete static_cast<OwnedScore*>(score);
}
