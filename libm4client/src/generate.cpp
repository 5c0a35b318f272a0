// SPDX-License-Identifier: MIT
#include <cmath>

#include "adapter.hpp"
#include "boundary.hpp"
#include "options.hpp"

using namespace m4::client;
namespace wire = m4::wire;
using m4::protocol::Encoder;

namespace {

constexpr std::size_t kMaxStops = 16;
constexpr std::size_t kMaxStopBytes = 256;

void check_generate(const m4_generate_options& options) {
    if (!std::isfinite(options.temperature) || options.temperature < 0.0F) {
        throw invalid("temperature is not a number of 0 or more");
    }
    if (!(options.top_p >= 0.0F && options.top_p <= 1.0F)) {
        throw invalid("top_p is not between 0 and 1");
    }
    if (options.ignore_eos > 1) {
        throw invalid("ignore_eos is neither 0 nor 1");
    }
    if (options.stop_count > kMaxStops) {
        throw invalid("more than 16 stop texts");
    }
    if (options.stop_count > 0 && options.stop == nullptr) {
        throw invalid("stop is NULL");
    }
    for (std::size_t i = 0; i < options.stop_count; ++i) {
        const char* text = options.stop[i];
        const std::size_t bytes = text == nullptr ? 0 : ::strnlen(text, kMaxStopBytes + 1);
        if (bytes == 0 || bytes > kMaxStopBytes) {
            throw invalid("a stop text is empty or over 256 bytes");
        }
    }
}

flatbuffers::Offset<wire::GenerateRequest> encode(Encoder& encoder, const m4_session& session,
                                                  const m4_generate_options& options) {
    std::vector<flatbuffers::Offset<flatbuffers::String>> stop;
    for (std::size_t i = 0; i < options.stop_count; ++i) {
        stop.push_back(encoder.builder().CreateString(options.stop[i]));
    }
    const auto stops = stop.empty() ? 0 : encoder.builder().CreateVector(stop);
    const auto adapter = put_adapter(*session.connection, encoder, options.adapter);
    return wire::CreateGenerateRequest(encoder.builder(), session.id, options.max_tokens,
                                       options.temperature, options.top_k, options.top_p,
                                       options.seed, stops, options.ignore_eos != 0, adapter);
}

/// Waits as the app asked; false when it asked not to wait any longer.
bool await_event(m4_stream& stream, int timeout_ms) {
    Connection& connection = *stream.connection;
    const bool as_client = timeout_ms < 0;
    const Deadline deadline = as_client ? connection.deadline() : Deadline::after_ms(timeout_ms);
    if (connection.await_stream(*stream.state, deadline)) {
        return true;
    }
    if (as_client) {
        throw Error(M4_E_TIMEOUT, "nothing came from the stream within " +
                                      std::to_string(connection.timeout_ms()) + " ms");
    }
    return false;
}

}  // namespace

int m4_generate(m4_session* session, const struct m4_generate_options* options,
                m4_stream** stream) {
    return guarded(session, [&] {
        check_pointer(stream, "stream");
        const m4_generate_options known = read_options(options, "m4_generate_options");
        check_generate(known);
        require_idle(*session);
        auto made = std::make_unique<m4_stream>();
        made->connection = session->connection;
        made->state = session->connection->start_stream(
            [&](Encoder& encoder) { return encode(encoder, *session, known); });
        session->stream = made->state;
        *stream = made.release();
        return M4_OK;
    });
}

int m4_stream_next(m4_stream* stream, int timeout_ms, struct m4_event* event) {
    return guarded(stream, [&] {
        check_output(event, "m4_event");
        if (timeout_ms < -1) {
            throw invalid("timeout_ms is below -1");
        }
        StreamState& state = *stream->state;
        if (state.taken()) {
            return 0;
        }
        if (!state.has_event() && !state.ended() && !await_event(*stream, timeout_ms)) {
            return static_cast<int>(M4_E_WOULD_BLOCK);
        }
        if (state.has_event()) {
            write_struct(event, state.take_event());
            return 1;
        }
        state.mark_error_seen();
        throw Error(*state.error());
    });
}

int m4_stream_cancel(m4_stream* stream) {
    return guarded(stream, [&] {
        if (!stream->state->ended()) {
            stream->connection->cancel(*stream->state);
        }
        return M4_OK;
    });
}

int m4_stream_usage(const m4_stream* stream, struct m4_usage* usage) {
    return guarded(stream, [&] {
        check_output(usage, "m4_usage");
        if (!stream->state->taken()) {
            return static_cast<int>(M4_E_WOULD_BLOCK);
        }
        write_struct(usage, stream->state->usage());
        return static_cast<int>(M4_OK);
    });
}

void m4_stream_close(m4_stream* stream) {
    if (stream == nullptr) {
        return;
    }
    if (!stream->state->ended()) {
        // On a broken connection every stream has ended.
        (void)guarded(stream, [&] {
            stream->connection->cancel(*stream->state);
            return M4_OK;
        });
    }
    stream->state->abandon();
    delete stream;
}
