// SPDX-License-Identifier: MIT
#include "handles.hpp"

#include <cerrno>
#include <system_error>

namespace m4ctl {

Failure system_failure(const std::string& call) {
    return {kExitFailed, call + ": " + std::generic_category().message(errno)};
}

std::string words_of(const m4_client* client, int code) {
    std::string words = m4_strerror(code);
    m4_error_info info = M4_INIT(m4_error_info);
    if (m4_client_error(client, &info) != M4_OK || info.code != code) {
        return words;
    }
    if (*info.message != '\0' && words != info.message) {
        words += std::string(": ") + info.message;
    }
    if (info.retry_after_ms != 0) {
        words += " (retry after " + std::to_string(info.retry_after_ms) + " ms)";
    }
    return words;
}

void check(int code, const m4_client* client) {
    if (code < 0) {
        throw Failure(code == M4_E_UNAVAILABLE ? kExitUnavailable : kExitFailed,
                      words_of(client, code));
    }
}

Client connect(const Global& global) {
    m4_connect_options options = M4_INIT(m4_connect_options);
    options.socket_path = global.socket.empty() ? nullptr : global.socket.c_str();
    options.client_name = "m4ctl";
    options.timeout_ms = global.timeout_ms();
    m4_client* client = nullptr;
    const int code = m4_client_connect(&options, &client);
    if (code < 0) {
        throw Failure(code == M4_E_INVALID ? kExitUsage : kExitUnavailable,
                      words_of(nullptr, code));
    }
    return Client(client);
}

Session create_session(const Client& client, const m4_adapter_id* adapter) {
    m4_session_options options = M4_INIT(m4_session_options);
    options.adapter = adapter;
    m4_session* session = nullptr;
    check(m4_session_create(client.get(), &options, &session), client.get());
    return Session(session);
}

ModelInfo model_info(const Client& client) {
    ModelInfo info = M4_INIT(struct m4_model_info);
    check(m4_model_info(client.get(), &info), client.get());
    return info;
}

Status status(const Client& client) {
    Status status = M4_INIT(struct m4_status);
    check(m4_status(client.get(), &status), client.get());
    return status;
}

std::vector<uint32_t> tokenize(const Client& client, const std::string& text, bool add_special) {
    uint32_t* ids = nullptr;
    size_t count = 0;
    check(m4_tokenize(client.get(), text.data(), text.size(), add_special ? M4_ADD_SPECIAL : 0,
                      &ids, &count),
          client.get());
    const Array<uint32_t> owned(ids);
    return {ids, ids + count};
}

std::string detokenize(const Client& client, const uint32_t* ids, size_t count) {
    char* text = nullptr;
    size_t bytes = 0;
    check(m4_detokenize(client.get(), ids, count, &text, &bytes), client.get());
    const Array<char> owned(text);
    return {text, bytes};
}

}  // namespace m4ctl
