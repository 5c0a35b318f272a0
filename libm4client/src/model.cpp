// SPDX-License-Identifier: MIT
// What serves us: the model, the service, its sessions; and its tokeniser.
#include "boundary.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
using m4::protocol::Encoder;
using m4::protocol::span_of;
using m4::protocol::text_of;

namespace {

// The functions of the same names hide them in C++.
using ModelInfo = struct m4_model_info;
using Status = struct m4_status;

std::string hex(std::span<const std::uint8_t> bytes) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4U];
        text += kDigits[byte & 15U];
    }
    return text;
}

ModelInfo info_of(const wire::ModelInfoReply& reply) {
    ModelInfo info = {};
    info.size = sizeof info;
    copy_text(info.name, text_of(reply.name()));
    copy_text(info.version, text_of(reply.version()));
    copy_text(info.architecture, text_of(reply.architecture()));
    copy_text(info.digest, hex(span_of(reply.digest())));
    copy_text(info.root, hex(span_of(reply.root())));
    copy_text(info.source_digest, hex(span_of(reply.source_digest())));
    copy_text(info.source, text_of(reply.source()));
    info.rollback_index = reply.rollback_index();
    info.parameters = reply.parameters();
    info.payload_bytes = reply.payload_bytes();
    info.context_length = reply.context_length();
    info.vocabulary = reply.vocabulary();
    info.bos_id = reply.bos_id();
    info.eos_id = reply.eos_id();
    copy_text(info.signer, text_of(reply.signer()));
    info.generation = reply.generation();
    info.development = reply.development() ? 1 : 0;
    copy_text(info.state, text_of(reply.state()));
    return info;
}

Status status_of(const wire::StatusReply& reply) {
    Status status = {};
    status.size = sizeof status;
    copy_text(status.server_version, text_of(reply.server_version()));
    copy_text(status.device_name, text_of(reply.device_name()));
    copy_text(status.driver_name, text_of(reply.driver_name()));
    copy_text(status.driver_info, text_of(reply.driver_info()));
    copy_text(status.weights_import, text_of(reply.weights_import()));
    copy_text(status.kv_cache_type, text_of(reply.kv_cache_type()));
    status.weight_bytes = reply.weight_bytes();
    status.copied_bytes = reply.copied_bytes();
    status.kv_pool_bytes = reply.kv_pool_bytes();
    status.kv_used_bytes = reply.kv_used_bytes();
    status.uptime_ms = reply.uptime_ms();
    status.start_to_ready_ms = reply.start_to_ready_ms();
    status.tokens_prompt = reply.tokens_prompt();
    status.tokens_generated = reply.tokens_generated();
    status.clients = reply.clients();
    status.sessions = reply.sessions();
    status.requests_active = reply.requests_active();
    status.requests_queued = reply.requests_queued();
    copy_text(status.model_state, text_of(reply.model_state()));
    status.development = reply.development() ? 1 : 0;
    copy_text(status.render_node, text_of(reply.render_node()));
    copy_text(status.drm_driver, text_of(reply.drm_driver()));
    status.kv_pages = reply.kv_pages();
    status.kv_pages_used = reply.kv_pages_used();
    status.kv_pages_shared = reply.kv_pages_shared();
    status.cold = reply.cold();
    status.senses_bytes = reply.senses_bytes();
    status.inputs_encoded = reply.inputs_encoded();
    status.inputs_reused = reply.inputs_reused();
    status.adapters = reply.adapters();
    status.adapters_resident = reply.adapters_resident();
    status.adapter_pool_bytes = reply.adapter_pool_bytes();
    status.adapter_used_bytes = reply.adapter_used_bytes();
    status.adapter_loads = reply.adapter_loads();
    status.adapter_evictions = reply.adapter_evictions();
    status.adapter_load_us = reply.adapter_load_us();
    return status;
}

m4_session_entry entry_of(const wire::SessionEntry& from) {
    m4_session_entry entry = {};
    entry.session_id = from.session();
    entry.uid = from.uid();
    entry.pid = from.pid();
    entry.position = from.position();
    entry.capacity = from.capacity();
    entry.tokens_generated = from.tokens_generated();
    entry.active = from.active() ? 1 : 0;
    copy_text(entry.client_name, text_of(from.client_name()));
    return entry;
}

}  // namespace

int m4_model_info(m4_client* client, struct m4_model_info* info) {
    return guarded(client, [&] {
        check_output(info, "m4_model_info");
        const auto& reply = client->connection->call<wire::ModelInfoReply>(
            [](Encoder& encoder) { return wire::CreateModelInfoRequest(encoder.builder()); });
        write_struct(info, info_of(reply));
        return M4_OK;
    });
}

int m4_status(m4_client* client, struct m4_status* status) {
    return guarded(client, [&] {
        check_output(status, "m4_status");
        const auto& reply = client->connection->call<wire::StatusReply>(
            [](Encoder& encoder) { return wire::CreateStatusRequest(encoder.builder()); });
        write_struct(status, status_of(reply));
        return M4_OK;
    });
}

int m4_session_list(m4_client* client, struct m4_session_entry** entries, size_t* count) {
    return guarded(client, [&] {
        check_pointer(entries, "entries");
        check_pointer(count, "count");
        const auto& reply = client->connection->call<wire::SessionListReply>(
            [](Encoder& encoder) { return wire::CreateSessionListRequest(encoder.builder()); });
        const std::size_t found = reply.entries() == nullptr ? 0 : reply.entries()->size();
        auto list = caller_array<m4_session_entry>(found);
        for (std::size_t i = 0; i < found; ++i) {
            list[i] = entry_of(*reply.entries()->Get(static_cast<flatbuffers::uoffset_t>(i)));
        }
        *entries = list.release();
        *count = found;
        return M4_OK;
    });
}

int m4_tokenize(m4_client* client, const char* text, size_t bytes, uint32_t flags, uint32_t** ids,
                size_t* count) {
    return guarded(client, [&] {
        const auto words = text_argument(text, bytes);
        check_flags(flags);
        check_pointer(ids, "ids");
        check_pointer(count, "count");
        Connection& connection = *client->connection;
        const auto& reply = connection.call<wire::TokensReply>([&](Encoder& encoder) {
            const auto bulk = encoder.put_text(words);
            return wire::CreateTokenizeRequest(encoder.builder(), bulk,
                                               (flags & M4_ADD_SPECIAL) != 0);
        });
        const auto found = reply_ids(connection, reply.ids());
        auto array = caller_array<std::uint32_t>(found.size());
        std::copy(found.begin(), found.end(), array.get());
        *ids = array.release();
        *count = found.size();
        return M4_OK;
    });
}

int m4_detokenize(m4_client* client, const uint32_t* ids, size_t count, char** text,
                  size_t* bytes) {
    return guarded(client, [&] {
        const auto tokens = ids_argument(ids, count);
        check_pointer(text, "text");
        check_pointer(bytes, "bytes");
        Connection& connection = *client->connection;
        const auto& reply = connection.call<wire::TextReply>([&](Encoder& encoder) {
            return wire::CreateDetokenizeRequest(encoder.builder(), encoder.put_ids(tokens));
        });
        const auto found = reply_text(connection, reply.text());
        const std::string_view words = found.text();
        auto array = caller_array<char>(words.size() + 1);
        std::copy(words.begin(), words.end(), array.get());
        *text = array.release();
        *bytes = words.size();
        return M4_OK;
    });
}
