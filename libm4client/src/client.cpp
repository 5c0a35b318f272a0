// SPDX-License-Identifier: MIT
#include "boundary.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;

namespace {

constexpr int kAvailabilityTimeoutMs = 30000;

/// Of m4_client_connect(), which has no client to keep it.
LastError& last_connect_error() {
    thread_local LastError last;
    return last;
}

int availability_of(const LastError& last) {
    switch (last.code) {
        case M4_E_UNAVAILABLE:
            return M4_UNAVAILABLE_NO_SERVICE;
        case M4_E_VERSION:
            return M4_UNAVAILABLE_VERSION;
        case M4_E_PERMISSION:
            return M4_UNAVAILABLE_PERMISSION;
        default:
            return M4_UNAVAILABLE_ERROR;
    }
}

}  // namespace

int m4_client_connect(const struct m4_connect_options* options, m4_client** client) {
    return guard(last_connect_error(), [&] {
        check_pointer(client, "client");
        const m4_connect_options known = read_options(options, "m4_connect_options");
        auto made = std::make_unique<m4_client>();
        made->connection = connect(known);
        *client = made.release();
        return M4_OK;
    });
}

void m4_client_close(m4_client* client) {
    if (client != nullptr) {
        client->connection->close();
        delete client;
    }
}

int m4_client_error(const m4_client* client, struct m4_error_info* info) {
    const LastError& last =
        client == nullptr ? last_connect_error() : client->connection->last_error;
    LastError own;  // a failure to ask must not replace what is asked for
    return guard(own, [&] {
        check_output(info, "m4_error_info");
        m4_error_info known = {};
        known.size = sizeof known;
        known.code = last.code;
        known.retry_after_ms = last.retry_after_ms;
        known.message = last.message.c_str();
        write_struct(info, known);
        return M4_OK;
    });
}

int m4_client_fd(const m4_client* client) {
    return client == nullptr ? M4_E_INVALID : client->connection->fd();
}

short m4_client_events(const m4_client* client) {
    return client == nullptr ? short{0} : client->connection->poll_events();
}

int m4_client_dispatch(m4_client* client) {
    return guarded(client, [&] {
        client->connection->dispatch();
        return M4_OK;
    });
}

int m4_availability(const char* socket_path, char* reason, size_t reason_bytes) {
    LastError last;
    std::string words;
    const int code = guard(last, [&] {
        m4_connect_options options = {};
        options.size = sizeof options;
        options.socket_path = socket_path;
        options.timeout_ms = kAvailabilityTimeoutMs;
        const Deadline deadline = Deadline::after_ms(kAvailabilityTimeoutMs);
        std::string version;
        const auto connection = connect(options, &version);
        const auto& status = connection->call_until<m4::wire::StatusReply>(
            deadline, [](m4::protocol::Encoder& encoder) {
                return m4::wire::CreateStatusRequest(encoder.builder());
            });
        words =
            "m4d " + version + " on " + std::string(m4::protocol::text_of(status.device_name()));
        return M4_OK;
    });
    if (reason != nullptr && reason_bytes > 0) {
        const auto fits = clip_utf8(code == M4_OK ? words : last.message, reason_bytes - 1);
        std::memcpy(reason, fits.data(), fits.size());
        reason[fits.size()] = '\0';
    }
    return code == M4_OK ? M4_AVAILABLE : availability_of(last);
}

void m4_free(void* memory) {
    std::free(memory);
}
