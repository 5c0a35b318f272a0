// SPDX-License-Identifier: MIT
#include "ipc/reply.hpp"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "lib/part_ports.hpp"

namespace m4::ipc {

using protocol::Encoder;
using protocol::Packet;

namespace {

// Together well below protocol::kMaxMessageBytes.
constexpr std::size_t kEntriesAMessage = 5000;  // of 8 bytes
constexpr std::size_t kRowsAMessage = 2000;     // of 4 bytes
constexpr std::size_t kSessionsAMessage = 300;
constexpr std::size_t kPartsAMessage = 120;
/// Names and digests of an adapter come to under 400 bytes.
constexpr std::size_t kAdaptersAMessage = 120;
constexpr std::size_t kErrorBytes = 1024;

template <std::size_t N>
auto put_digest(Encoder& encoder, const std::array<std::uint8_t, N>& digest) {
    return encoder.builder().CreateVector(digest.data(), digest.size());
}

template <typename T>
auto put_vector(Encoder& encoder, std::span<const T> values) {
    return encoder.builder().CreateVector(values.data(), values.size());
}

std::string_view kind_name(firmware::PartKind kind) {
    switch (kind) {
        case firmware::PartKind::backbone:
            return "backbone";
        case firmware::PartKind::decoder:
            return "decoder";
        case firmware::PartKind::projector:
            return "projector";
        case firmware::PartKind::head:
            return "head";
        case firmware::PartKind::encoder:
            break;
    }
    return "encoder";
}

/// 0: of neither sound nor motion.
float rate_of(const firmware::Recipe& recipe) {
    if (const auto* audio = std::get_if<firmware::AudioRecipe>(&recipe)) {
        return static_cast<float>(audio->sample_rate);
    }
    const auto* motion = std::get_if<firmware::MotionRecipe>(&recipe);
    return motion == nullptr ? 0 : motion->rate_hz;
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

    void operator()(const sched::Encoded& encoded) {
        Encoder encoder;
        const auto part = encoder.builder().CreateString(encoded.part);
        const auto values = encoder.put_bulk(std::as_bytes(std::span(encoded.values)));
        add(encoder, wire::CreateEncodeReply(encoder.builder(), part, encoded.inputs, values));
    }

    void operator()(const sched::TranscriptPart& part) {
        Encoder encoder;
        const auto ids = put_vector<std::uint32_t>(encoder, part.ids);
        const auto text = encoder.put_bytes(part.text);
        add(encoder,
            wire::CreateTranscribeChunk(encoder.builder(), part.start_ms, part.end_ms, ids, text));
    }

    void operator()(const sched::TranscribeFinished& finished) {
        Encoder encoder;
        const auto part = encoder.builder().CreateString(finished.part);
        const auto language = encoder.builder().CreateString(finished.language);
        const auto usage = put_usage(encoder, finished.usage);
        add(encoder,
            wire::CreateTranscribeDone(encoder.builder(), part, language, finished.windows, usage));
    }

    /// For the scheduler, not for clients.
    void operator()(const sched::Prepared& /*prepared*/) {}
    void operator()(const sched::AdapterChecked& /*checked*/) {}

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
    reply.add_senses_bytes(snapshot.senses_bytes);
    reply.add_inputs_encoded(snapshot.inputs_encoded);
    reply.add_inputs_reused(snapshot.inputs_reused);
    reply.add_adapters(figures.adapters);
    reply.add_adapters_resident(snapshot.adapter_use.resident);
    reply.add_adapter_pool_bytes(snapshot.adapter_use.pool_bytes);
    reply.add_adapter_used_bytes(snapshot.adapter_use.used_bytes);
    reply.add_adapter_loads(snapshot.adapter_use.loads);
    reply.add_adapter_evictions(snapshot.adapter_use.evictions);
    reply.add_adapter_load_us(static_cast<std::uint64_t>(snapshot.adapter_use.load_us));
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

Packet parts_packet(sched::RequestId request, const sched::Parts& parts) {
    using firmware::Role;
    Encoder encoder;
    auto& builder = encoder.builder();
    std::vector<flatbuffers::Offset<wire::PartEntry>> entries;
    const std::size_t count = std::min(parts.all().size(), kPartsAMessage);
    for (std::uint32_t i = 0; i < count; ++i) {
        const firmware::Part& part = parts.all()[i];
        const auto name = builder.CreateString(part.name);
        const auto kind = builder.CreateString(std::string(kind_name(part.kind)));
        const auto architecture = builder.CreateString(part.architecture);
        const auto modality = builder.CreateString(std::string(name_of(parts.modality(i))));
        const auto space = builder.CreateString(part.space);
        const firmware::FeatureShape hidden = firmware::port_shape(part, Role::hidden);
        const firmware::FeatureShape features = firmware::port_shape(part, Role::features);
        wire::PartEntryBuilder entry(builder);
        entry.add_name(name);
        entry.add_kind(kind);
        entry.add_architecture(architecture);
        entry.add_modality(modality);
        entry.add_space(space);
        entry.add_parameters(part.parameters);
        entry.add_embedding(firmware::port_shape(part, Role::embedding).columns);
        entry.add_scores(firmware::port_shape(part, Role::scores).columns);
        entry.add_labels(static_cast<std::uint32_t>(part.labels.size()));
        entry.add_hidden_rows(hidden.rows);
        entry.add_hidden_columns(hidden.columns);
        entry.add_feature_rows(features.rows);
        entry.add_feature_columns(features.columns);
        entry.add_rate_hz(rate_of(part.recipe));
        entries.push_back(entry.Finish());
    }
    const auto vector = builder.CreateVector(entries);
    return encoder.finish(request,
                          wire::CreatePartsReply(builder, vector, count < parts.all().size()));
}

Packet labels_packet(sched::RequestId request, const firmware::Part& part) {
    std::string text;
    for (const std::string& label : part.labels) {
        text += label + "\n";
    }
    Encoder encoder;
    const auto bulk = encoder.put_text(text);
    return encoder.finish(request, wire::CreateTextReply(encoder.builder(), bulk));
}

std::vector<Packet> outcome_packets(sched::RequestId request, const sched::Outcome& outcome) {
    std::vector<Packet> packets;
    std::visit(OutcomeEncoder(request, packets), outcome);
    return packets;
}

Packet adapters_packet(sched::RequestId request, const std::vector<adapters::Store::Row>& rows,
                       const sched::Snapshot& snapshot, std::uint64_t used_bytes,
                       std::uint64_t quota_bytes) {
    Encoder encoder;
    auto& builder = encoder.builder();
    std::vector<flatbuffers::Offset<wire::AdapterEntry>> entries;
    const std::size_t count = std::min(rows.size(), kAdaptersAMessage);
    for (std::size_t i = 0; i < count; ++i) {
        const adapters::Store::Row& row = rows[i];
        const adapters::Report& report = *row.report;
        const auto digest = builder.CreateVector(row.digest.data(), row.digest.size());
        const auto name = builder.CreateString(report.name);
        const auto task = builder.CreateString(report.task);
        const auto part = builder.CreateString(report.part);
        const auto figures = std::find_if(
            snapshot.adapters.begin(), snapshot.adapters.end(),
            [&](const sched::AdapterFigures& one) { return one.digest == row.digest; });
        wire::AdapterEntryBuilder entry(builder);
        entry.add_digest(digest);
        entry.add_name(name);
        entry.add_task(task);
        entry.add_part(part);
        entry.add_uid(row.uid);
        entry.add_bytes(report.bytes);
        entry.add_rank(report.rank);
        entry.add_pairs(report.pairs);
        entry.add_head(report.head);
        entry.add_published(row.published);
        if (figures != snapshot.adapters.end()) {
            entry.add_sessions(figures->sessions);
            entry.add_resident(figures->resident);
        }
        entry.add_unused_s(row.unused_s);
        entries.push_back(entry.Finish());
    }
    const auto vector = builder.CreateVector(entries);
    return encoder.finish(
        request, wire::CreateAdapterListReply(builder, vector, count < rows.size(), used_bytes,
                                              quota_bytes));
}

Packet collected_packet(sched::RequestId request, const adapters::Store::Removed& removed) {
    Encoder encoder;
    return encoder.finish(
        request, wire::CreateAdapterCollectReply(encoder.builder(), removed.count, removed.bytes));
}

Packet ok_packet(sched::RequestId request) {
    Encoder encoder;
    return encoder.finish(request, wire::CreateOkReply(encoder.builder()));
}

bool is_last(const sched::Outcome& outcome) {
    return !std::holds_alternative<sched::Piece>(outcome) &&
           !std::holds_alternative<sched::ScoreRows>(outcome) &&
           !std::holds_alternative<sched::TranscriptPart>(outcome) &&
           !std::holds_alternative<sched::BenchProgress>(outcome);
}

}  // namespace m4::ipc
