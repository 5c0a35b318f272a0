// SPDX-License-Identifier: MIT
#include "wire_samples.hpp"

#include <bit>
#include <string>

namespace m4::test {

namespace {

using protocol::Encoder;
using protocol::Packet;

/// Sums values so that order and place count.
class Sum {
   public:
    template <typename T>
    void add(T value) {
        if constexpr (std::is_same_v<T, float>) {
            mix(std::bit_cast<std::uint32_t>(value));
        } else if constexpr (std::is_same_v<T, double>) {
            mix(std::bit_cast<std::uint64_t>(value));
        } else {
            mix(static_cast<std::uint64_t>(value));
        }
    }
    void add(const flatbuffers::String* text) {
        for (const char c : protocol::text_of(text)) {
            add(static_cast<unsigned char>(c));
        }
        mix(0x5eed);
    }
    template <typename T>
    void add(const flatbuffers::Vector<T>* values) {
        for (const T value : protocol::span_of(values)) {
            add(value);
        }
        mix(0xbeef);
    }
    void add(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* texts) {
        for (flatbuffers::uoffset_t i = 0; texts != nullptr && i < texts->size(); ++i) {
            add(texts->Get(i));
        }
    }
    void add(const wire::Bulk* bulk) {
        if (bulk != nullptr) {
            add(bulk->bytes());
            add(bulk->in_fd());
            add(bulk->size_bytes());
        }
    }
    void add(const wire::Usage* usage) {
        if (usage != nullptr) {
            all(usage->prompt_tokens(), usage->cached_tokens(), usage->output_tokens(),
                usage->queue_us(), usage->ttft_us(), usage->total_us());
        }
    }
    template <typename... T>
    void all(T... values) {
        (add(values), ...);
    }
    [[nodiscard]] std::uint64_t value() const { return value_; }

   private:
    void mix(std::uint64_t value) { value_ = (value_ ^ value) * 0x100000001b3ULL + 1; }
    std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

void add_status(Sum& sum, const wire::StatusReply& s) {
    sum.all(s.server_version(), s.device_name(), s.driver_name(), s.driver_info(),
            s.weights_import(), s.kv_cache_type(), s.weight_bytes(), s.copied_bytes(),
            s.kv_pool_bytes(), s.kv_used_bytes(), s.uptime_ms(), s.start_to_ready_ms(),
            s.tokens_prompt(), s.tokens_generated(), s.clients(), s.sessions(), s.requests_active(),
            s.requests_queued(), s.senses_bytes(), s.inputs_encoded(), s.inputs_reused());
    sum.all(s.adapters(), s.adapters_resident(), s.adapter_pool_bytes(), s.adapter_used_bytes(),
            s.adapter_loads(), s.adapter_evictions(), s.adapter_load_us());
}

void add_media(Sum& sum, const wire::Media* m) {
    if (m != nullptr) {
        sum.all(m->kind(), m->offset(), m->bytes(), m->width(), m->height(), m->stride(),
                m->chroma_offset(), m->channels(), m->samples(), m->rate_hz());
    }
}

void add_parts(Sum& sum, const wire::PartsReply& parts) {
    sum.add(parts.truncated());
    for (flatbuffers::uoffset_t i = 0; parts.entries() != nullptr && i < parts.entries()->size();
         ++i) {
        const auto* e = parts.entries()->Get(i);
        sum.all(e->name(), e->kind(), e->architecture(), e->modality(), e->space(), e->parameters(),
                e->embedding(), e->scores(), e->labels(), e->hidden_rows(), e->hidden_columns(),
                e->feature_rows(), e->feature_columns(), e->rate_hz());
    }
}

void add_adapter(Sum& sum, const wire::AdapterReply& a) {
    sum.all(a.digest(), a.accepted(), a.kept(), a.reason(), a.name(), a.task(), a.prompt_template(),
            a.base_name(), a.architecture(), a.source(), a.base(), a.present(), a.probed(),
            a.image(), a.part(), a.pairs(), a.matched(), a.acting(), a.rank(), a.labels(), a.head(),
            a.bytes(), a.device_bytes(), a.unmatched());
}

void add_adapters(Sum& sum, const wire::AdapterListReply& list) {
    sum.all(list.truncated(), list.used_bytes(), list.quota_bytes());
    for (flatbuffers::uoffset_t i = 0; list.entries() != nullptr && i < list.entries()->size();
         ++i) {
        const auto* e = list.entries()->Get(i);
        sum.all(e->digest(), e->name(), e->task(), e->part(), e->uid(), e->bytes(), e->rank(),
                e->pairs(), e->head(), e->published(), e->sessions(), e->resident(), e->unused_s());
    }
}

void add_model(Sum& sum, const wire::ModelInfoReply& m) {
    sum.all(m.name(), m.version(), m.architecture(), m.digest(), m.root(), m.source_digest(),
            m.source(), m.rollback_index(), m.parameters(), m.payload_bytes(), m.context_length(),
            m.vocabulary(), m.bos_id(), m.eos_id());
}

void add_sessions(Sum& sum, const wire::SessionListReply& list) {
    sum.add(list.truncated());
    for (flatbuffers::uoffset_t i = 0; list.entries() != nullptr && i < list.entries()->size();
         ++i) {
        const auto* e = list.entries()->Get(i);
        sum.all(e->session(), e->uid(), e->pid(), e->position(), e->capacity(),
                e->tokens_generated(), e->active(), e->client_name());
    }
}

void add_bench(Sum& sum, const wire::BenchReply& b) {
    sum.all(b.context(), b.tokens(), b.passes(), b.prefill(), b.token_us(), b.prefill_us(),
            b.step_bytes(), b.copy_bytes(), b.copy_us(), b.timestamps(), b.cut_short());
    for (flatbuffers::uoffset_t i = 0; b.kernels() != nullptr && i < b.kernels()->size(); ++i) {
        const auto* kernel = b.kernels()->Get(i);
        sum.all(kernel->name(), kernel->operators(), kernel->dispatches(), kernel->time_us());
    }
}

void add_request(Sum& sum, const wire::Frame& frame) {
    if (const auto* hello = frame.body_as_Hello()) {
        sum.all(hello->version_major(), hello->version_minor(), hello->features(),
                hello->client_name());
    } else if (const auto* tokenize = frame.body_as_TokenizeRequest()) {
        sum.all(tokenize->text(), tokenize->add_special());
    } else if (const auto* detokenize = frame.body_as_DetokenizeRequest()) {
        sum.add(detokenize->ids());
    } else if (const auto* create = frame.body_as_SessionCreateRequest()) {
        sum.all(create->capacity(), create->adapter());
    } else if (const auto* clone = frame.body_as_SessionCloneRequest()) {
        sum.add(clone->session());
    } else if (const auto* append = frame.body_as_SessionAppendRequest()) {
        sum.all(append->session(), append->text(), append->ids(), append->add_special());
    } else if (const auto* truncate = frame.body_as_SessionTruncateRequest()) {
        sum.all(truncate->session(), truncate->position());
    } else if (const auto* info = frame.body_as_SessionInfoRequest()) {
        sum.add(info->session());
    } else if (const auto* close = frame.body_as_SessionCloseRequest()) {
        sum.add(close->session());
    } else if (const auto* generate = frame.body_as_GenerateRequest()) {
        sum.all(generate->session(), generate->max_tokens(), generate->temperature(),
                generate->top_k(), generate->top_p(), generate->seed(), generate->stop(),
                generate->ignore_eos(), generate->adapter());
    } else if (const auto* score = frame.body_as_ScoreRequest()) {
        sum.all(score->ids(), score->top_n(), score->adapter());
    } else if (const auto* encode = frame.body_as_EncodeRequest()) {
        sum.all(encode->part(), encode->output(), encode->data(), encode->adapter());
        for (flatbuffers::uoffset_t i = 0;
             encode->inputs() != nullptr && i < encode->inputs()->size(); ++i) {
            add_media(sum, encode->inputs()->Get(i));
        }
    } else if (const auto* media = frame.body_as_SessionMediaRequest()) {
        sum.all(media->session(), media->part(), media->data());
        add_media(sum, media->input());
    } else if (const auto* transcribe = frame.body_as_TranscribeRequest()) {
        sum.all(transcribe->part(), transcribe->data(), transcribe->language(),
                transcribe->translate(), transcribe->timestamps(), transcribe->beam(),
                transcribe->max_tokens(), transcribe->prompt());
        add_media(sum, transcribe->input());
    } else if (const auto* labels = frame.body_as_LabelsRequest()) {
        sum.all(labels->part(), labels->adapter());
    } else if (const auto* brought = frame.body_as_AdapterAddRequest()) {
        sum.all(brought->file(), brought->keep());
    } else if (const auto* removed = frame.body_as_AdapterRemoveRequest()) {
        sum.add(removed->digest());
    } else if (const auto* publish = frame.body_as_AdapterPublishRequest()) {
        sum.all(publish->digest(), publish->published());
    } else if (const auto* collect = frame.body_as_AdapterCollectRequest()) {
        sum.add(collect->unused_s());
    } else if (const auto* bench = frame.body_as_BenchRequest()) {
        sum.all(bench->context(), bench->tokens(), bench->prefill());
    } else if (const auto* cancel = frame.body_as_CancelRequest()) {
        sum.add(cancel->target());
    }
}

void add_reply(Sum& sum, const wire::Frame& frame) {
    if (const auto* hello = frame.body_as_HelloReply()) {
        sum.all(hello->version_major(), hello->version_minor(), hello->features(),
                hello->server_version());
    } else if (const auto* status = frame.body_as_StatusReply()) {
        add_status(sum, *status);
    } else if (const auto* model = frame.body_as_ModelInfoReply()) {
        add_model(sum, *model);
    } else if (const auto* list = frame.body_as_SessionListReply()) {
        add_sessions(sum, *list);
    } else if (const auto* tokens = frame.body_as_TokensReply()) {
        sum.add(tokens->ids());
    } else if (const auto* text = frame.body_as_TextReply()) {
        sum.add(text->text());
    } else if (const auto* session = frame.body_as_SessionReply()) {
        sum.all(session->session(), session->position(), session->capacity());
    } else if (const auto* chunk = frame.body_as_GenerateChunk()) {
        sum.all(chunk->ids(), chunk->text());
    } else if (const auto* done = frame.body_as_GenerateDone()) {
        sum.all(done->finish(), done->ids(), done->text(), done->usage());
    } else if (const auto* score = frame.body_as_ScoreChunk()) {
        sum.all(score->first(), score->token_logprobs(), score->top_ids(), score->top_logprobs(),
                score->top_offset());
    } else if (const auto* score_done = frame.body_as_ScoreDone()) {
        sum.add(score_done->usage());
    } else if (const auto* encoded = frame.body_as_EncodeReply()) {
        sum.all(encoded->part(), encoded->inputs(), encoded->values());
    } else if (const auto* heard = frame.body_as_TranscribeChunk()) {
        sum.all(heard->start_ms(), heard->end_ms(), heard->ids(), heard->text());
    } else if (const auto* written = frame.body_as_TranscribeDone()) {
        sum.all(written->part(), written->language(), written->windows(), written->usage());
    } else if (const auto* parts = frame.body_as_PartsReply()) {
        add_parts(sum, *parts);
    } else if (const auto* adapter = frame.body_as_AdapterReply()) {
        add_adapter(sum, *adapter);
    } else if (const auto* adapters = frame.body_as_AdapterListReply()) {
        add_adapters(sum, *adapters);
    } else if (const auto* collected = frame.body_as_AdapterCollectReply()) {
        sum.all(collected->removed(), collected->bytes());
    } else if (const auto* progress = frame.body_as_BenchProgress()) {
        sum.add(progress->percent());
    } else if (const auto* bench = frame.body_as_BenchReply()) {
        add_bench(sum, *bench);
    } else if (const auto* error = frame.body_as_ErrorReply()) {
        sum.all(error->code(), error->message(), error->retry_after_ms());
    }
}

template <typename Make>
std::function<Packet(std::uint64_t)> sample(Make make) {
    return [make](std::uint64_t id) {
        Encoder encoder;
        const auto body = make(encoder);
        return encoder.finish(id, body);
    };
}

const std::vector<std::uint32_t> kIds{1, 2, 70000, 0xffffffffU};
const std::vector<std::uint8_t> kDigest(32, 0xd1);
const std::vector<std::uint8_t> kText{'e', 'n', 'd', 0xc3, 0xa9};
const std::vector<float> kFloats{-0.5F, -1.25F, 3.0F};

std::map<wire::Body, std::function<Packet(std::uint64_t)>> make_requests() {
    using wire::Body;
    return {
        {Body::Hello,
         sample([](Encoder& e) { return wire::CreateHelloDirect(e.builder(), 1, 2, 3, "app"); })},
        {Body::StatusRequest,
         sample([](Encoder& e) { return wire::CreateStatusRequest(e.builder()); })},
        {Body::ModelInfoRequest,
         sample([](Encoder& e) { return wire::CreateModelInfoRequest(e.builder()); })},
        {Body::SessionListRequest,
         sample([](Encoder& e) { return wire::CreateSessionListRequest(e.builder()); })},
        {Body::TokenizeRequest, sample([](Encoder& e) {
             return wire::CreateTokenizeRequest(e.builder(), e.put_text("some text"), true);
         })},
        {Body::DetokenizeRequest, sample([](Encoder& e) {
             return wire::CreateDetokenizeRequest(e.builder(), e.put_ids(kIds));
         })},
        {Body::SessionCreateRequest, sample([](Encoder& e) {
             return wire::CreateSessionCreateRequestDirect(e.builder(), 512, &kDigest);
         })},
        {Body::SessionCloneRequest,
         sample([](Encoder& e) { return wire::CreateSessionCloneRequest(e.builder(), 9); })},
        {Body::SessionAppendRequest, sample([](Encoder& e) {
             return wire::CreateSessionAppendRequest(e.builder(), 9, e.put_text("more"), 0, true);
         })},
        {Body::SessionTruncateRequest,
         sample([](Encoder& e) { return wire::CreateSessionTruncateRequest(e.builder(), 9, 5); })},
        {Body::SessionInfoRequest,
         sample([](Encoder& e) { return wire::CreateSessionInfoRequest(e.builder(), 9); })},
        {Body::SessionCloseRequest,
         sample([](Encoder& e) { return wire::CreateSessionCloseRequest(e.builder(), 9); })},
        {Body::GenerateRequest, sample([](Encoder& e) {
             const std::vector<flatbuffers::Offset<flatbuffers::String>> stop{
                 e.builder().CreateString("\n\n"), e.builder().CreateString("END")};
             return wire::CreateGenerateRequestDirect(e.builder(), 9, 64, 0.8F, 40, 0.95F, 1234,
                                                      &stop, true, &kDigest);
         })},
        {Body::ScoreRequest, sample([](Encoder& e) {
             const auto ids = e.put_ids(kIds);
             const auto adapter = e.builder().CreateVector(kDigest);
             return wire::CreateScoreRequest(e.builder(), ids, 5, adapter);
         })},
        {Body::BenchRequest,
         sample([](Encoder& e) { return wire::CreateBenchRequest(e.builder(), 16, 32, 64); })},
        {Body::EncodeRequest, sample([](Encoder& e) {
             const std::vector<flatbuffers::Offset<wire::Media>> inputs{
                 wire::CreateMedia(e.builder(), wire::MediaKind::nv12, 0, 0, 4, 2, 4, 8),
                 wire::CreateMedia(e.builder(), wire::MediaKind::pcm16, 12, 0, 0, 0, 0, 0, 2, 5,
                                   16000)};
             const auto part = e.builder().CreateString("eye");
             const auto data = e.put_text("twelve bytestwenty-more-bytes..");
             const auto vector = e.builder().CreateVector(inputs);
             const auto adapter = e.builder().CreateVector(kDigest);
             return wire::CreateEncodeRequest(e.builder(), part, wire::EncodeOutput::scores, vector,
                                              data, adapter);
         })},
        {Body::SessionMediaRequest, sample([](Encoder& e) {
             const auto part = e.builder().CreateString("eye");
             const auto data = e.put_text("words");
             return wire::CreateSessionMediaRequest(
                 e.builder(), 9, part, wire::CreateMedia(e.builder(), wire::MediaKind::text, 0, 5),
                 data);
         })},
        {Body::TranscribeRequest, sample([](Encoder& e) {
             const auto part = e.builder().CreateString("ear");
             const auto language = e.builder().CreateString("de");
             const auto data = e.put_text("twelve bytes");
             const auto prompt = e.builder().CreateVector(kIds);
             return wire::CreateTranscribeRequest(
                 e.builder(), part,
                 wire::CreateMedia(e.builder(), wire::MediaKind::pcm16, 0, 12, 0, 0, 0, 0, 1, 6,
                                   16000),
                 data, language, true, true, 5, 24, prompt);
         })},
        {Body::PartsRequest,
         sample([](Encoder& e) { return wire::CreatePartsRequest(e.builder()); })},
        {Body::LabelsRequest, sample([](Encoder& e) {
             return wire::CreateLabelsRequestDirect(e.builder(), "eye", &kDigest);
         })},
        {Body::AdapterAddRequest, sample([](Encoder& e) {
             return wire::CreateAdapterAddRequest(e.builder(), e.put_text("a file"), true);
         })},
        {Body::AdapterListRequest,
         sample([](Encoder& e) { return wire::CreateAdapterListRequest(e.builder()); })},
        {Body::AdapterRemoveRequest, sample([](Encoder& e) {
             return wire::CreateAdapterRemoveRequestDirect(e.builder(), &kDigest);
         })},
        {Body::AdapterPublishRequest, sample([](Encoder& e) {
             return wire::CreateAdapterPublishRequestDirect(e.builder(), &kDigest, true);
         })},
        {Body::AdapterCollectRequest,
         sample([](Encoder& e) { return wire::CreateAdapterCollectRequest(e.builder(), 3600); })},
        {Body::CancelRequest,
         sample([](Encoder& e) { return wire::CreateCancelRequest(e.builder(), 41); })},
    };
}

std::map<wire::Body, std::function<Packet(std::uint64_t)>> make_replies() {
    using wire::Body;
    const auto usage = [](Encoder& e) {
        return wire::CreateUsage(e.builder(), 10, 4, 32, 100, 2000, 30000);
    };
    return {
        {Body::HelloReply, sample([](Encoder& e) {
             return wire::CreateHelloReplyDirect(e.builder(), 1, 0, 0, "0.1.0");
         })},
        {Body::StatusReply, sample([](Encoder& e) {
             return wire::CreateStatusReplyDirect(e.builder(), "0.1.0", "device", "driver", "info",
                                                  "host_pointer", "f16", 1, 2, 3, 4, 5, 6, 7, 8, 9,
                                                  10, 11, 12);
         })},
        {Body::ModelInfoReply, sample([](Encoder& e) {
             return wire::CreateModelInfoReplyDirect(e.builder(), "nano", "1", "llama", &kDigest,
                                                     &kDigest, &kDigest, "device", 3, 1000, 2000,
                                                     2048, 4096, 1, -1);
         })},
        {Body::SessionListReply, sample([](Encoder& e) {
             const std::vector<flatbuffers::Offset<wire::SessionEntry>> entries{
                 wire::CreateSessionEntryDirect(e.builder(), 9, 1000, 77, 5, 2048, 99, true, "a"),
                 wire::CreateSessionEntryDirect(e.builder(), 10, 0, 1, 0, 16, 0, false, "b")};
             return wire::CreateSessionListReplyDirect(e.builder(), &entries, true);
         })},
        {Body::TokensReply,
         sample([](Encoder& e) { return wire::CreateTokensReply(e.builder(), e.put_ids(kIds)); })},
        {Body::TextReply,
         sample([](Encoder& e) { return wire::CreateTextReply(e.builder(), e.put_text("text")); })},
        {Body::SessionReply,
         sample([](Encoder& e) { return wire::CreateSessionReply(e.builder(), 9, 5, 2048); })},
        {Body::GenerateChunk, sample([](Encoder& e) {
             return wire::CreateGenerateChunkDirect(e.builder(), &kIds, &kText);
         })},
        {Body::GenerateDone, sample([usage](Encoder& e) {
             return wire::CreateGenerateDoneDirect(e.builder(), wire::Finish::stop, &kIds, &kText,
                                                   usage(e));
         })},
        {Body::ScoreChunk, sample([](Encoder& e) {
             return wire::CreateScoreChunkDirect(e.builder(), 3, &kFloats, &kIds, &kFloats, 7);
         })},
        {Body::ScoreDone,
         sample([usage](Encoder& e) { return wire::CreateScoreDone(e.builder(), usage(e)); })},
        {Body::BenchProgress,
         sample([](Encoder& e) { return wire::CreateBenchProgress(e.builder(), 42); })},
        {Body::BenchReply, sample([](Encoder& e) {
             const std::vector<flatbuffers::Offset<wire::BenchKernel>> kernels{
                 wire::CreateBenchKernelDirect(e.builder(), "gated", "rms_norm, 2 linear", 6, 300),
                 wire::CreateBenchKernelDirect(e.builder(), "argmax", "argmax", 1, 100)};
             return wire::CreateBenchReplyDirect(e.builder(), 16, 32, 4, 64, 500, 8000, 1000000,
                                                 4000000, 1000, &kernels, true, false);
         })},
        {Body::EncodeReply, sample([](Encoder& e) {
             const auto part = e.builder().CreateString("eye");
             const auto values = e.put_text("12345678");
             return wire::CreateEncodeReply(e.builder(), part, 2, values);
         })},
        {Body::TranscribeChunk, sample([](Encoder& e) {
             return wire::CreateTranscribeChunkDirect(e.builder(), 30000, 31020, &kIds, &kText);
         })},
        {Body::TranscribeDone, sample([usage](Encoder& e) {
             return wire::CreateTranscribeDoneDirect(e.builder(), "ear-text", "de", 3, usage(e));
         })},
        {Body::PartsReply, sample([](Encoder& e) {
             const std::vector<flatbuffers::Offset<wire::PartEntry>> entries{
                 wire::CreatePartEntryDirect(e.builder(), "eye", "encoder", "vit", "image", "clip",
                                             86000000, 512, 10, 10, 197, 768, 672, 224, 0)};
             return wire::CreatePartsReplyDirect(e.builder(), &entries, true);
         })},
        {Body::AdapterReply, sample([](Encoder& e) {
             const std::vector<flatbuffers::Offset<flatbuffers::String>> unmatched{
                 e.builder().CreateString("a.weight: no such tensor"),
                 e.builder().CreateString("b.weight: is 3 x 4, not 4 x 4")};
             return wire::CreateAdapterReplyDirect(
                 e.builder(), &kDigest, true, true, "changes 2 matrices", "tone", "rewrite",
                 "Q: {prompt}", "nano-base", "llama", "peft", &kDigest, &kDigest, &kDigest,
                 &kDigest, "backbone", 4, 2, 2, 8, 3, true, 5000, 8192, &unmatched);
         })},
        {Body::AdapterListReply, sample([](Encoder& e) {
             const std::vector<flatbuffers::Offset<wire::AdapterEntry>> entries{
                 wire::CreateAdapterEntryDirect(e.builder(), &kDigest, "tone", "rewrite",
                                                "backbone", 1000, 5000, 8, 4, false, true, 2, true,
                                                90),
                 wire::CreateAdapterEntryDirect(e.builder(), &kDigest, "mood", "", "", 0, 700, 0, 0,
                                                true)};
             return wire::CreateAdapterListReplyDirect(e.builder(), &entries, true, 5700, 1 << 30);
         })},
        {Body::AdapterCollectReply,
         sample([](Encoder& e) { return wire::CreateAdapterCollectReply(e.builder(), 2, 5700); })},
        {Body::OkReply, sample([](Encoder& e) { return wire::CreateOkReply(e.builder()); })},
        {Body::ErrorReply, sample([](Encoder& e) {
             return wire::CreateErrorReplyDirect(e.builder(), -10, "no room", 250);
         })},
    };
}

}  // namespace

const std::map<wire::Body, std::function<Packet(std::uint64_t id)>>& wire_samples() {
    static const auto samples = [] {
        auto all = make_requests();
        all.merge(make_replies());
        return all;
    }();
    return samples;
}

std::uint64_t read_every_field(const wire::Frame& frame) {
    Sum sum;
    sum.all(frame.id(), frame.body_type());
    add_request(sum, frame);
    add_reply(sum, frame);
    return sum.value();
}

}  // namespace m4::test
