// SPDX-License-Identifier: MIT
#include "ipc/dispatch.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

namespace m4::ipc {

using protocol::Fault;
using protocol::text_of;

namespace {

/// Over a limit: the request fails. Anything else: the peer is broken.
Command fault_command(Fault fault, const std::string& limit) {
    if (fault == Fault::kBulkTooLarge) {
        return sched::Failure{M4_E_TOO_LARGE, "at most " + limit + " at a time", 0};
    }
    return Violation{protocol::fault_text(fault)};
}

/// Adapters have heads; this service does not run them yet.
sched::Failure no_heads() {
    return {M4_E_UNSUPPORTED, "this service runs no heads of adapters", 0};
}

Command text_command(const wire::Bulk* bulk, UniqueFd& fd, const Limits& limits, bool add_special,
                     std::optional<sched::SessionId> session) {
    protocol::BulkBytes payload;
    const Fault fault = protocol::take_bulk(bulk, fd, limits.text_bytes, payload);
    if (fault != Fault::kNone) {
        return fault_command(fault, std::to_string(limits.text_bytes) + " bytes of text");
    }
    return EncodeText{std::string(payload.text()), add_special, session};
}

/// The ids, or what to answer instead.
std::optional<Command> take_ids(const wire::Bulk* bulk, UniqueFd& fd, const Limits& limits,
                                std::vector<std::uint32_t>& ids) {
    const Fault fault = protocol::take_ids(bulk, fd, limits.ids, ids);
    if (fault != Fault::kNone) {
        return fault_command(fault, std::to_string(limits.ids) + " tokens");
    }
    return std::nullopt;
}

Command to_command(const wire::Hello& hello, const Limits& limits) {
    std::string name(text_of(hello.client_name()).substr(0, limits.client_name_bytes));
    // It is shown on terminals.
    std::ranges::replace_if(
        name, [](char c) { return (c >= 0 && c < ' ') || c == '\x7f'; }, '?');
    return Greeting{hello.version_major(), hello.version_minor(), hello.features(),
                    std::move(name)};
}

Command to_command(const wire::SessionAppendRequest& append, UniqueFd& fd, const Limits& limits) {
    if ((append.text() == nullptr) == (append.ids() == nullptr)) {
        return Violation{"an append has either text or ids"};
    }
    if (append.text() != nullptr) {
        return text_command(append.text(), fd, limits, append.add_special(), append.session());
    }
    sched::AppendTokens request;
    request.session = append.session();
    if (auto refusal = take_ids(append.ids(), fd, limits, request.ids)) {
        return std::move(*refusal);
    }
    return sched::Request{std::move(request)};
}

/// A digest that may be absent, or what to answer instead.
std::optional<Command> take_digest(const flatbuffers::Vector<std::uint8_t>* bytes,
                                   std::optional<sched::AdapterDigest>& out) {
    const auto given = protocol::span_of(bytes);
    if (given.empty()) {
        return std::nullopt;
    }
    sched::AdapterDigest digest{};
    if (given.size() != digest.size()) {
        return Violation{"an adapter's digest has 32 bytes"};
    }
    std::copy(given.begin(), given.end(), digest.begin());
    out = digest;
    return std::nullopt;
}

template <typename Wanted>
Command digest_command(const flatbuffers::Vector<std::uint8_t>* bytes, Wanted wanted) {
    std::optional<sched::AdapterDigest> digest;
    if (auto refusal = take_digest(bytes, digest)) {
        return std::move(*refusal);
    }
    if (!digest) {
        return Violation{"a request about an adapter names it"};
    }
    wanted.digest = *digest;
    return wanted;
}

Command to_command(const wire::SessionCreateRequest& create) {
    sched::CreateSession request{create.capacity()};
    if (auto refusal = take_digest(create.adapter(), request.adapter.digest)) {
        return std::move(*refusal);
    }
    return sched::Request{std::move(request)};
}

Command to_command(const wire::AdapterAddRequest& add, UniqueFd& fd, const Limits& limits) {
    AddAdapter request;
    request.keep = add.keep();
    auto file = std::make_shared<protocol::BulkView>();
    const Fault fault = protocol::take_view(add.file(), fd, limits.adapter_bytes, *file);
    if (fault == Fault::kBulkUnsealed || fault == Fault::kBulkSize || fault == Fault::kBulkSparse) {
        return sched::Failure{M4_E_INVALID, protocol::fault_text(fault), 0};
    }
    if (fault != Fault::kNone) {
        return fault_command(fault, std::to_string(limits.adapter_bytes) + " bytes of an adapter");
    }
    request.file = std::move(file);
    return request;
}

Command to_command(const wire::GenerateRequest& generate) {
    sched::Generate request;
    if (auto refusal = take_digest(generate.adapter(), request.adapter.digest)) {
        return std::move(*refusal);
    }
    request.session = generate.session();
    request.max_tokens = generate.max_tokens();
    request.sampling.temperature = generate.temperature();
    request.sampling.top_k = generate.top_k();
    request.sampling.top_p = generate.top_p();
    request.sampling.seed = generate.seed();
    request.ignore_eos = generate.ignore_eos();
    if (generate.stop() != nullptr) {
        for (const flatbuffers::String* stop : *generate.stop()) {
            request.stop.emplace_back(text_of(stop));
        }
    }
    return sched::Request{std::move(request)};
}

Command to_command(const wire::ScoreRequest& score, UniqueFd& fd, const Limits& limits) {
    sched::Score request;
    request.top_n = score.top_n();
    if (auto refusal = take_digest(score.adapter(), request.adapter.digest)) {
        return std::move(*refusal);
    }
    if (auto refusal = take_ids(score.ids(), fd, limits, request.ids)) {
        return std::move(*refusal);
    }
    return sched::Request{std::move(request)};
}

Command to_command(const wire::DetokenizeRequest& detokenize, UniqueFd& fd, const Limits& limits) {
    DecodeIds request;
    if (auto refusal = take_ids(detokenize.ids(), fd, limits, request.ids)) {
        return std::move(*refusal);
    }
    return request;
}

sched::MediaInput input_of(const wire::Media& media) {
    sched::MediaInput input;
    input.is_text = media.kind() == wire::MediaKind::text;
    input.is_tokens = media.kind() == wire::MediaKind::tokens_u32;
    input.bytes = media.bytes();
    media::Descriptor& descriptor = input.descriptor;
    descriptor.kind = static_cast<media::Kind>(media.kind());
    descriptor.offset = media.offset();
    descriptor.width = media.width();
    descriptor.height = media.height();
    descriptor.stride = media.stride();
    descriptor.chroma_offset = media.chroma_offset();
    descriptor.channels = media.channels();
    descriptor.samples = media.samples();
    descriptor.rate_hz = media.rate_hz();
    return input;
}

/// The data of a request, or what to answer instead. What an app may have got wrong
/// with a memfd of its own costs it the request, not the connection.
std::optional<Command> take_media(const wire::Bulk* bulk, UniqueFd& fd, const Limits& limits,
                                  std::shared_ptr<const protocol::BulkView>& out) {
    auto data = std::make_shared<protocol::BulkView>();
    const Fault fault = protocol::take_view(bulk, fd, limits.media_bytes, *data);
    if (fault == Fault::kBulkUnsealed || fault == Fault::kBulkSize) {
        return sched::Failure{M4_E_INVALID, protocol::fault_text(fault), 0};
    }
    if (fault == Fault::kBulkSparse) {
        return sched::Failure{M4_E_INVALID, "the memfd of the media has holes", 0};
    }
    if (fault != Fault::kNone) {
        return fault_command(fault, std::to_string(limits.media_bytes) + " bytes of media");
    }
    out = std::move(data);
    return std::nullopt;
}

Command to_command(const wire::EncodeRequest& encode, UniqueFd& fd, const Limits& limits) {
    EncodeMedia request;
    request.inputs.part = text_of(encode.part());
    if (protocol::span_of(encode.adapter()).size() != 0) {
        // What came with it goes: the connection lives on.
        fd.reset();
        return no_heads();
    }
    if (encode.output() < wire::EncodeOutput::embedding ||
        encode.output() > wire::EncodeOutput::hidden) {
        return Violation{"an encode request wants an embedding, scores or hidden states"};
    }
    request.inputs.output = static_cast<sched::EncodeOutput>(encode.output());
    if (encode.inputs() != nullptr) {
        if (encode.inputs()->size() > limits.inputs) {
            return fault_command(Fault::kBulkTooLarge, std::to_string(limits.inputs) + " inputs");
        }
        for (const wire::Media* media : *encode.inputs()) {
            request.inputs.inputs.push_back(input_of(*media));
        }
    }
    if (auto refusal = take_media(encode.data(), fd, limits, request.data)) {
        return std::move(*refusal);
    }
    return request;
}

Command to_command(const wire::SessionMediaRequest& append, UniqueFd& fd, const Limits& limits) {
    if (append.input() == nullptr) {
        return Violation{"a media append has an input"};
    }
    EncodeMedia request;
    request.inputs.part = text_of(append.part());
    request.inputs.session = append.session();
    request.inputs.inputs.push_back(input_of(*append.input()));
    if (auto refusal = take_media(append.data(), fd, limits, request.data)) {
        return std::move(*refusal);
    }
    return request;
}

Command to_command(const wire::TranscribeRequest& transcribe, UniqueFd& fd, const Limits& limits) {
    if (transcribe.input() == nullptr) {
        return Violation{"a transcribe request has an input"};
    }
    TranscribeMedia request;
    request.inputs.part = text_of(transcribe.part());
    request.inputs.input = input_of(*transcribe.input());
    request.inputs.language = text_of(transcribe.language());
    request.inputs.translate = transcribe.translate();
    request.inputs.timestamps = transcribe.timestamps();
    request.inputs.beam = transcribe.beam();
    request.inputs.max_tokens = transcribe.max_tokens();
    const auto prompt = protocol::span_of(transcribe.prompt());
    request.inputs.prompt.assign(prompt.begin(), prompt.end());
    if (auto refusal = take_media(transcribe.data(), fd, limits, request.data)) {
        return std::move(*refusal);
    }
    return request;
}

Command body_command(const wire::Frame& frame, UniqueFd& fd, const Limits& limits) {
    switch (frame.body_type()) {
        case wire::Body::Hello:
            return to_command(*frame.body_as_Hello(), limits);
        case wire::Body::StatusRequest:
            return AskStatus{};
        case wire::Body::ModelInfoRequest:
            return AskModel{};
        case wire::Body::SessionListRequest:
            return sched::Request{sched::ListSessions{}};
        case wire::Body::TokenizeRequest: {
            const auto& tokenize = *frame.body_as_TokenizeRequest();
            return text_command(tokenize.text(), fd, limits, tokenize.add_special(), std::nullopt);
        }
        case wire::Body::DetokenizeRequest:
            return to_command(*frame.body_as_DetokenizeRequest(), fd, limits);
        case wire::Body::SessionCreateRequest:
            return to_command(*frame.body_as_SessionCreateRequest());
        case wire::Body::SessionCloneRequest:
            return sched::Request{
                sched::CloneSession{frame.body_as_SessionCloneRequest()->session()}};
        case wire::Body::SessionAppendRequest:
            return to_command(*frame.body_as_SessionAppendRequest(), fd, limits);
        case wire::Body::SessionTruncateRequest: {
            const auto& truncate = *frame.body_as_SessionTruncateRequest();
            return sched::Request{sched::TruncateSession{truncate.session(), truncate.position()}};
        }
        case wire::Body::SessionInfoRequest:
            return sched::Request{
                sched::InspectSession{frame.body_as_SessionInfoRequest()->session()}};
        case wire::Body::SessionCloseRequest:
            return sched::Request{
                sched::CloseSession{frame.body_as_SessionCloseRequest()->session()}};
        case wire::Body::GenerateRequest:
            return to_command(*frame.body_as_GenerateRequest());
        case wire::Body::ScoreRequest:
            return to_command(*frame.body_as_ScoreRequest(), fd, limits);
        case wire::Body::BenchRequest: {
            const auto& bench = *frame.body_as_BenchRequest();
            return sched::Request{
                sched::RunBench{bench.context(), bench.tokens(), bench.prefill()}};
        }
        case wire::Body::EncodeRequest:
            return to_command(*frame.body_as_EncodeRequest(), fd, limits);
        case wire::Body::SessionMediaRequest:
            return to_command(*frame.body_as_SessionMediaRequest(), fd, limits);
        case wire::Body::TranscribeRequest:
            return to_command(*frame.body_as_TranscribeRequest(), fd, limits);
        case wire::Body::PartsRequest:
            return AskParts{};
        case wire::Body::LabelsRequest:
            if (protocol::span_of(frame.body_as_LabelsRequest()->adapter()).size() != 0) {
                return no_heads();
            }
            return AskLabels{std::string(text_of(frame.body_as_LabelsRequest()->part()))};
        case wire::Body::AdapterAddRequest:
            return to_command(*frame.body_as_AdapterAddRequest(), fd, limits);
        case wire::Body::AdapterListRequest:
            return ListAdapters{};
        case wire::Body::AdapterRemoveRequest:
            return digest_command(frame.body_as_AdapterRemoveRequest()->digest(), RemoveAdapter{});
        case wire::Body::AdapterPublishRequest: {
            const auto& publish = *frame.body_as_AdapterPublishRequest();
            return digest_command(publish.digest(), PublishAdapter{{}, publish.published()});
        }
        case wire::Body::AdapterCollectRequest:
            return CollectAdapters{frame.body_as_AdapterCollectRequest()->unused_s()};
        case wire::Body::CancelRequest:
            return Cancel{frame.body_as_CancelRequest()->target()};
        default:
            return Violation{"a message of this type is no request"};
    }
}

}  // namespace

Command dispatch(const wire::Frame& frame, UniqueFd& fd, const Limits& limits) {
    if (frame.id() == 0) {
        return Violation{"a request has an id"};
    }
    Command command = body_command(frame, fd, limits);
    if (fd) {
        fd.reset();
        return Violation{"a descriptor came with a message that has no use for it"};
    }
    return command;
}

}  // namespace m4::ipc
