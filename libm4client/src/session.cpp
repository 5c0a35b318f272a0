// SPDX-License-Identifier: MIT
#include "adapter.hpp"
#include "boundary.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
namespace protocol = m4::protocol;
using m4::protocol::Encoder;

namespace m4::client {

void require_idle(const m4_session& session) {
    const auto& stream = session.stream;
    if (stream == nullptr) {
        return;
    }
    if (stream->open_for_app()) {
        throw Error(M4_E_BUSY, "a stream of this session is open");
    }
    session.connection->await_end(*stream, session.connection->deadline());
}

}  // namespace m4::client

namespace {

void append(m4_session& session, std::string_view text, std::span<const std::uint32_t> ids,
            bool is_text, std::uint32_t flags) {
    require_idle(session);
    (void)session.connection->call<wire::SessionReply>([&](Encoder& encoder) {
        const auto bulk = is_text ? encoder.put_text(text) : encoder.put_ids(ids);
        const flatbuffers::Offset<wire::Bulk> none;
        return wire::CreateSessionAppendRequest(encoder.builder(), session.id,
                                                is_text ? bulk : none, is_text ? none : bulk,
                                                (flags & M4_ADD_SPECIAL) != 0);
    });
}

}  // namespace

int m4_session_create(m4_client* client, const struct m4_session_options* options,
                      m4_session** session) {
    return guarded(client, [&] {
        check_pointer(session, "session");
        const m4_session_options known = read_options(options, "m4_session_options");
        auto made = std::make_unique<m4_session>();
        made->connection = client->connection;
        const auto& reply = client->connection->call<wire::SessionReply>(
            [&](Encoder& encoder) {
                const auto adapter = put_adapter(*client->connection, encoder, known.adapter);
                return wire::CreateSessionCreateRequest(encoder.builder(), known.capacity, adapter);
            },
            Connection::Late::kCloseSession);
        made->id = reply.session();
        *session = made.release();
        return M4_OK;
    });
}

int m4_session_clone(m4_session* session, m4_session** clone) {
    return guarded(session, [&] {
        check_pointer(clone, "clone");
        require_idle(*session);
        session->connection->require_minor(protocol::kMinorOfClone, "m4_session_clone");
        auto made = std::make_unique<m4_session>();
        made->connection = session->connection;
        const auto& reply = session->connection->call<wire::SessionReply>(
            [&](Encoder& encoder) {
                return wire::CreateSessionCloneRequest(encoder.builder(), session->id);
            },
            Connection::Late::kCloseSession);
        made->id = reply.session();
        *clone = made.release();
        return M4_OK;
    });
}

void m4_session_close(m4_session* session) {
    if (session == nullptr) {
        return;
    }
    // On a broken connection the service has freed it already.
    (void)guarded(session, [&] {
        session->connection->close_session(session->id);
        return M4_OK;
    });
    delete session;
}

int m4_session_append_text(m4_session* session, const char* text, size_t bytes, uint32_t flags) {
    return guarded(session, [&] {
        const auto words = text_argument(text, bytes);
        check_flags(flags);
        append(*session, words, {}, true, flags);
        return M4_OK;
    });
}

int m4_session_append_tokens(m4_session* session, const uint32_t* ids, size_t count) {
    return guarded(session, [&] {
        append(*session, {}, ids_argument(ids, count), false, 0);
        return M4_OK;
    });
}

int m4_session_truncate(m4_session* session, uint32_t position) {
    return guarded(session, [&] {
        require_idle(*session);
        (void)session->connection->call<wire::SessionReply>([&](Encoder& encoder) {
            return wire::CreateSessionTruncateRequest(encoder.builder(), session->id, position);
        });
        return M4_OK;
    });
}

int m4_session_position(m4_session* session, uint32_t* position, uint32_t* capacity) {
    return guarded(session, [&] {
        if (session->stream != nullptr && session->stream->abandoned()) {
            require_idle(*session);
        }
        const auto& reply = session->connection->call<wire::SessionReply>([&](Encoder& encoder) {
            return wire::CreateSessionInfoRequest(encoder.builder(), session->id);
        });
        if (position != nullptr) {
            *position = reply.position();
        }
        if (capacity != nullptr) {
            *capacity = reply.capacity();
        }
        return M4_OK;
    });
}
