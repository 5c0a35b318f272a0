// SPDX-License-Identifier: MIT
#include "embed.hpp"

#include <cmath>
#include <cstring>

#include "adapter.hpp"
#include "boundary.hpp"
#include "media.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
namespace protocol = m4::protocol;
using protocol::Encoder;
using protocol::text_of;

namespace {

struct OwnedEmbedding : m4_embedding {
    std::vector<float> owned;
};

int embed_into(m4_client* client, const m4_media* const* inputs, std::size_t count,
               const m4_encode_options* options, wire::EncodeOutput output,
               m4_embedding** embedding) {
    return guarded(client, [&] {
        const m4_encode_options known = read_options(options, "m4_encode_options");
        check_pointer(embedding, "embedding");
        Encoded encoded = encode(*client->connection, inputs, count,
                                 known.part == nullptr ? "" : known.part, output);
        auto made = std::make_unique<OwnedEmbedding>();
        made->size = sizeof(m4_embedding);
        made->count = count;
        made->dim = encoded.dim;
        made->owned = std::move(encoded.values);
        made->values = made->owned.data();
        copy_text(made->part, encoded.part);
        *embedding = made.release();
        return M4_OK;
    });
}

/// By its length; 0 for a null vector, which is like nothing.
double length_of(const float* values, std::size_t dim) {
    double sum = 0;
    for (std::size_t i = 0; i < dim; ++i) {
        sum += double{values[i]} * values[i];
    }
    return std::sqrt(sum);
}

}  // namespace

namespace m4::client {

Encoded encode(Connection& connection, const m4_media* const* inputs, std::size_t count,
               const std::string& part, wire::EncodeOutput output, const m4_adapter_id* adapter) {
    connection.require_minor(protocol::kMinorOfSenses, "encoding");
    const MediaInputs media(inputs, count);
    const auto& reply = connection.call<wire::EncodeReply>([&](Encoder& encoder) {
        const auto name = encoder.builder().CreateString(part);
        const auto placed = media.put(encoder);
        const auto tables = encoder.builder().CreateVector(placed.tables);
        const auto named = put_adapter(connection, encoder, adapter);
        return wire::CreateEncodeRequest(encoder.builder(), name, output, tables, placed.data,
                                         named);
    });
    Encoded encoded;
    encoded.part = text_of(reply.part());
    const protocol::BulkBytes bulk = reply_text(connection, reply.values());
    const auto bytes = bulk.bytes();
    if (reply.inputs() != count || bytes.empty() || bytes.size() % (count * sizeof(float)) != 0) {
        connection.fail(M4_E_PROTOCOL, "the service sent results of other inputs");
    }
    encoded.values.resize(bytes.size() / sizeof(float));
    std::memcpy(encoded.values.data(), bytes.data(), bytes.size());
    encoded.dim = encoded.values.size() / count;
    return encoded;
}

Encoded encode_texts(Connection& connection, const char* const* texts, std::size_t count,
                     const std::string& part) {
    std::vector<m4_media> media(count);
    std::vector<const m4_media*> inputs(count);
    for (std::size_t i = 0; i < count; ++i) {
        if (texts[i] == nullptr) {
            throw invalid("a label is NULL");
        }
        media[i].size = sizeof(m4_media);
        media[i].kind = M4_MEDIA_TEXT;
        media[i].data = texts[i];
        media[i].bytes = std::strlen(texts[i]);
        inputs[i] = &media[i];
    }
    return encode(connection, inputs.data(), count, part, wire::EncodeOutput::embedding);
}

}  // namespace m4::client

int m4_embed(m4_client* client, const struct m4_media* const* inputs, size_t count,
             const struct m4_encode_options* options, struct m4_embedding** embedding) {
    return embed_into(client, inputs, count, options, wire::EncodeOutput::embedding, embedding);
}

int m4_encode_hidden(m4_client* client, const struct m4_media* const* inputs, size_t count,
                     const struct m4_encode_options* options, struct m4_embedding** hidden) {
    return embed_into(client, inputs, count, options, wire::EncodeOutput::hidden, hidden);
}

void m4_embedding_free(struct m4_embedding* embedding) {
    delete static_cast<OwnedEmbedding*>(embedding);
}

int m4_similarity(m4_client* client, const struct m4_media* const* queries, size_t query_count,
                  const struct m4_media* const* items, size_t item_count, float* cosines) {
    return guarded(client, [&] {
        check_pointer(cosines, "cosines");
        Connection& connection = *client->connection;
        const auto embedding = wire::EncodeOutput::embedding;
        const Encoded q = encode(connection, queries, query_count, "", embedding);
        const Encoded k = encode(connection, items, item_count, "", embedding);
        if (q.part != k.part) {
            const auto parts = parts_of(connection);
            const m4_part& left = part_named(connection, parts, q.part);
            const m4_part& right = part_named(connection, parts, k.part);
            if (left.space[0] == '\0' || std::strcmp(left.space, right.space) != 0) {
                throw invalid("parts " + q.part + " and " + k.part +
                              " give embeddings of different spaces");
            }
        }
        if (q.dim != k.dim) {
            connection.fail(M4_E_PROTOCOL, "the service sent embeddings of different lengths");
        }
        for (std::size_t i = 0; i < query_count; ++i) {
            for (std::size_t j = 0; j < item_count; ++j) {
                double dot = 0;
                for (std::size_t d = 0; d < q.dim; ++d) {
                    dot += double{q.row(i)[d]} * k.row(j)[d];
                }
                const double both = length_of(q.row(i), q.dim) * length_of(k.row(j), k.dim);
                cosines[i * item_count + j] = both > 0 ? static_cast<float>(dot / both) : 0.0F;
            }
        }
        return M4_OK;
    });
}

int m4_session_append_media(m4_session* session, const struct m4_media* input,
                            const struct m4_encode_options* options) {
    return guarded(session, [&] {
        const m4_encode_options known = read_options(options, "m4_encode_options");
        require_idle(*session);
        session->connection->require_minor(protocol::kMinorOfSenses, "m4_session_append_media");
        const MediaInputs media(&input, 1);
        (void)session->connection->call<wire::SessionReply>([&](Encoder& encoder) {
            const auto part =
                encoder.builder().CreateString(known.part == nullptr ? "" : known.part);
            const auto placed = media.put(encoder);
            return wire::CreateSessionMediaRequest(encoder.builder(), session->id, part,
                                                   placed.tables.at(0), placed.data);
        });
        return M4_OK;
    });
}
