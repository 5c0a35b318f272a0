// SPDX-License-Identifier: MIT
#include "ipc/reply.hpp"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

namespace m4::ipc {

using protocol::Encoder;
using protocol::Packet;

namespace {

// Together well below protocol::kMaxMessageBytes.
constexpr std::size_t kEntriesAMessage = 5000;  // of 8 bytes
constexpr std::size_t kRowsAMessage = 2000;     // of 4 bytes
constexpr std::size_t kSessionsAMessage = 300;
constexpr std::size_t kErrorBytes = 1024;

template <std::size_t N>
auto put_digest(Encoder& encoder, const std::array<std::uint8_t, N>& digest) {
    return encoder.builder().CreateVector(digest.data(), digest.size());
}

template <typename T>
auto put_vector(Encoder& encoder, std::span<const T> values) {
    return encoder.builder().CreateVector(values.data(), values.size());
}

auto put_usage(Encoder& encoder, const sched::Usage& usage) {
    return wire::CreateUsage(encoder.builder(), usage.prompt_tokens, usage.cached_tokens,
                             usage.output_tokens, usage.queue_us, usage.ttft_us, usage.total_us);
}

/// One message for each outcome but ScoreRows.
class OutcomeEncoder {
   public:
    OutcomeEncoder(sched::RequestId request, std::vector<Packet>& packets)
        : request_(request), packets_(&packets) {}

    void operator()(const sched::Failure& failure) {
        packets_->push_back(
            error_packet(request_, failure.code, failure.message, failure.retry_after_ms));
    }

    void operator()(const sched::Acknowledged& /*done*/) {
        Encoder encoder;
        add(encoder, wire::CreateOkReply(encoder.builder()));
    }

    void operator()(const sched::SessionState& state) {
        Encoder encoder;
        add(encoder, wire::CreateSessionReply(encoder.builder(), state.session, state.position,
                                              state.capacity));
    }

    void operator()(const sched::SessionTable& table) {
        Encoder encoder;
        auto& builder = encoder.builder();
        std::vector<flatbuffers::Offset<wire::SessionEntry>> entries;
        const std::size_t count = std::min(table.rows.size(), kSessionsAMessage);
        for (const sched::SessionRow& row : std::span(table.rows).first(count)) {
            const auto name = builder.CreateString(row.client_name);
            entries.push_back(wire::CreateSessionEntry(builder, row.session, row.uid, row.pid,
                                                       row.position, row.capacity,
                                                       row.tokens_generated, row.active, name));
        }
        const auto vector = builder.CreateVector(entries);
        add(encoder, wire::CreateSessionListReply(builder, vector, count < table.rows.size()));
    }

    void operator()(const sched::Piece& piece) {
        Encoder encoder;
        const auto ids = put_vector<std::uint32_t>(encoder, piece.ids);
        const auto text = encoder.put_bytes(piece.text);
        add(encoder, wire::CreateGenerateChunk(encoder.builder(), ids, text));
    }

    void operator()(const sched::GenerateFinished& finished) {
        Encoder encoder;
        const auto ids = put_vector<std::uint32_t>(encoder, finished.rest.ids);
        const auto text = encoder.put_bytes(finished.rest.text);
        const auto usage = put_usage(encoder, finished.usage);
        add(encoder,
            wire::CreateGenerateDone(encoder.builder(), static_cast<wire::Finish>(finished.finish),
                                     ids, text, usage));
    }

    void operator()(const sched::ScoreRows& rows) {
        if (rows.top_n > kEntriesAMessage) {
            for (std::uint32_t row = 0; row < rows.token_logprobs.size(); ++row) {
                add_long_row(rows, row);
            }
            return;
        }
        const std::size_t a_message = rows.top_n == 0
                                          ? kRowsAMessage
                                          : std::min(kRowsAMessage, kEntriesAMessage / rows.top_n);
        for (std::size_t row = 0; row < rows.token_logprobs.size(); row += a_message) {
            const std::size_t count = std::min(a_message, rows.token_logprobs.size() - row);
            add_rows(rows, row, count, 0, rows.top_n * count);
        }
    }

    void operator()(const sched::ScoreFinished& finished) {
        Encoder encoder;
        const auto usage = put_usage(encoder, finished.usage);
        add(encoder, wire::CreateScoreDone(encoder.builder(), usage));
    }

    void operator()(const sched::BenchProgress& progress) {
        Encoder encoder;
        add(encoder, wire::CreateBenchProgress(encoder.builder(), progress.percent));
    }

    void operator()(const sched::BenchFigures& figures) {
        Encoder encoder;
        auto& builder = encoder.builder();
        std::vector<flatbuffers::Offset<wire::BenchKernel>> kernels;
        for (const engine::KernelTime& kernel : figures.profile.kernels) {
            const auto name = builder.CreateString(kernel.name);
            const auto operators = builder.CreateString(kernel.operators);
            kernels.push_back(
                wire::CreateBenchKernel(builder, name, operators, kernel.dispatches, kernel.us));
        }
        const auto vector = builder.CreateVector(kernels);
        wire::BenchReplyBuilder reply(builder);
        reply.add_context(figures.context);
        reply.add_tokens(figures.tokens);
        reply.add_passes(figures.passes);
        reply.add_prefill(figures.prefill);
        reply.add_token_us(figures.token_us);
        reply.add_prefill_us(figures.prefill_us);
        reply.add_step_bytes(figures.step_bytes);
        reply.add_copy_bytes(figures.copy_bytes);
        reply.add_copy_us(figures.copy_us);
        reply.add_kernels(vector);
        reply.add_timestamps(figures.profile.timed);
        reply.add_cut_short(figures.cut_short);
        add(encoder, reply.Finish());
    }

    void operator()(const sched::Tokens& tokens) {
        Encoder encoder;
        const auto ids = encoder.put_ids(tokens.ids);
        add(encoder, wire::CreateTokensReply(encoder.builder(), ids));
    }

    void operator()(const sched::Text& text) {
        Encoder encoder;
        const auto bulk = encoder.put_text(text.text);
        add(encoder, wire::CreateTextReply(encoder.builder(), bulk));
    }

    // Told with what else status tells: see status_packet().
    void operator()(const sched::Snapshot& /*snapshot*/) {}

    // Of the service, not of a request.
    void operator()(const sched::DeviceLost& /*lost*/) {}
    void operator()(const sched::ImageRevoked& /*revoked*/) {}

   private:
    template <typename T>
    void add(Encoder& encoder, flatbuffers::Offset<T> body) {
        packets_->push_back(encoder.finish(request_, body));
    }

    /// A row whose best tokens do not fit one message: the first part tells
    /// its token's log-probability, the others have only entries.
    void add_long_row(const sched::ScoreRows& rows, std::uint32_t row) {
        for (std::size_t offset = 0; offset < rows.top_n; offset += kEntriesAMessage) {
            const std::size_t entries =
                std::min<std::size_t>(kEntriesAMessage, rows.top_n - offset);
            add_rows(rows, row, offset == 0 ? 1 : 0, offset, entries);
        }
    }

    /// `entries` of the best tokens, from the `offset`-th of row `row` on.
    void add_rows(const sched::ScoreRows& rows, std::size_t row, std::size_t count,
                  std::size_t offset, std::size_t entries) {
        Encoder encoder;
        const std::size_t begin = row * rows.top_n + offset;
        const auto logprobs =
            put_vector<float>(encoder, std::span(rows.token_logprobs).subspan(row, count));
        const auto top_ids =
            put_vector<std::uint32_t>(encoder, std::span(rows.top_ids).subspan(begin, entries));
        const auto top_logprobs =
            put_vector<float>(encoder, std::span(rows.top_logprobs).subspan(begin, entries));
        add(encoder, wire::CreateScoreChunk(
                         encoder.builder(), static_cast<std::uint32_t>(rows.first + row), logprobs,
                         top_ids, top_logprobs, static_cast<std::uint32_t>(offset)));
    }

    sched::RequestId request_;
    std::vector<Packet>* packets_;
};

}  // namespace

Packet error_packet(sched::RequestId request, int code, const std::string& message,
                    std::uint32_t retry_after_ms) {
    Encoder encoder;
    const auto text = encoder.builder().CreateString(message.substr(0, kErrorBytes));
    return encoder.finish(request,
                          wire::CreateErrorReply(encoder.builder(), code, text, retry_after_ms));
}

Packet hello_packet(sched::RequestId request, std::uint64_t features, const ServiceInfo& info) {
    Encoder encoder;
    const auto version = encoder.builder().CreateString(info.server_version);
    return encoder.finish(request,
                          wire::CreateHelloReply(encoder.builder(), protocol::kVersionMajor,
                                                 protocol::kVersionMinor, features, version));
}

Packet status_packet(sched::RequestId request, const ServiceInfo& info,
                     const sched::Snapshot& snapshot, const LoopFigures& figures) {
    Encoder encoder;
    auto& builder = encoder.builder();
    const auto server_version = builder.CreateString(info.server_version);
    const auto device_name = builder.CreateString(info.device.device_name);
    const auto driver_name = builder.CreateString(info.device.driver_name);
    const auto driver_info = builder.CreateString(info.device.driver_info);
    const auto weights_import = builder.CreateString(info.device.weights_import);
    const auto kv_cache_type = builder.CreateString(info.kv_cache_type);
    const auto model_state = builder.CreateString(info.model_state);
    const auto render_node = builder.CreateString(info.device.render_node);
    const auto drm_driver = builder.CreateString(info.device.drm_driver);
    wire::StatusReplyBuilder reply(builder);
    reply.add_server_version(server_version);
    reply.add_device_name(device_name);
    reply.add_driver_name(driver_name);
    reply.add_driver_info(driver_info);
    reply.add_weights_import(weights_import);
    reply.add_kv_cache_type(kv_cache_type);
    reply.add_weight_bytes(info.device.weight_bytes);
    reply.add_copied_bytes(info.device.copied_bytes);
    reply.add_kv_pool_bytes(info.device.kv_pool_bytes);
    reply.add_kv_used_bytes(snapshot.kv.used_bytes());
    reply.add_uptime_ms(figures.uptime_ms);
    reply.add_start_to_ready_ms(info.start_to_ready_ms);
    reply.add_tokens_prompt(snapshot.tokens_prompt);
    reply.add_tokens_generated(snapshot.tokens_generated);
    reply.add_clients(figures.clients);
    reply.add_sessions(snapshot.sessions);
    reply.add_requests_active(snapshot.requests_active);
    reply.add_requests_queued(snapshot.requests_queued);
    reply.add_model_state(model_state);
    reply.add_development(info.development);
    reply.add_render_node(render_node);
    reply.add_drm_driver(drm_driver);
    reply.add_kv_pages(snapshot.kv.pages);
    reply.add_kv_pages_used(snapshot.kv.used);
    reply.add_kv_pages_shared(snapshot.kv.shared);
    reply.add_cold(snapshot.cold);
    return encoder.finish(request, reply.Finish());
}

Packet model_packet(sched::RequestId request, const ServiceInfo& info) {
    Encoder encoder;
    auto& builder = encoder.builder();
    const auto name = builder.CreateString(info.model_name);
    const auto version = builder.CreateString(info.model_version);
    const auto architecture = builder.CreateString(info.architecture);
    const auto digest = put_digest(encoder, info.digest);
    const auto root = put_digest(encoder, info.root);
    const auto source_digest = put_digest(encoder, info.source_digest);
    const auto source = builder.CreateString(info.source);
    const auto signer = builder.CreateString(info.signer);
    const auto state = builder.CreateString(info.model_state);
    wire::ModelInfoReplyBuilder reply(builder);
    reply.add_name(name);
    reply.add_version(version);
    reply.add_architecture(architecture);
    reply.add_digest(digest);
    reply.add_root(root);
    reply.add_source_digest(source_digest);
    reply.add_source(source);
    reply.add_rollback_index(info.rollback_index);
    reply.add_parameters(info.parameters);
    reply.add_payload_bytes(info.payload_bytes);
    reply.add_context_length(info.context_length);
    reply.add_vocabulary(info.vocabulary);
    reply.add_bos_id(info.bos_id);
    reply.add_eos_id(info.eos_id);
    reply.add_signer(signer);
    reply.add_generation(info.generation);
    reply.add_development(info.development);
    reply.add_state(state);
    return encoder.finish(request, reply.Finish());
}

std::vector<Packet> outcome_packets(sched::RequestId request, const sched::Outcome& outcome) {
    std::vector<Packet> packets;
    std::visit(OutcomeEncoder(request, packets), outcome);
    return packets;
}

bool is_last(const sched::Outcome& outcome) {
    return !std::holds_alternative<sched::Piece>(outcome) &&
           !std::holds_alternative<sched::ScoreRows>(outcome) &&
           !std::holds_alternative<sched::BenchProgress>(outcome);
}

}  // namespace m4::ipc
