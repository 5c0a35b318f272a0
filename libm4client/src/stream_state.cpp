// SPDX-License-Identifier: MIT
#include "stream_state.hpp"

namespace m4::client {

namespace {

m4_finish finish_of(wire::Finish finish) {
    switch (finish) {
        case wire::Finish::eos:
            return M4_FINISH_EOS;
        case wire::Finish::length:
            return M4_FINISH_LENGTH;
        case wire::Finish::stop:
            return M4_FINISH_STOP;
        case wire::Finish::context:
            return M4_FINISH_CONTEXT;
        case wire::Finish::cancelled:
            return M4_FINISH_CANCELLED;
        default:
            throw Error(M4_E_PROTOCOL, "the service ended a stream without a known reason");
    }
}

}  // namespace

Error error_of(const wire::ErrorReply& reply) {
    const auto words = protocol::text_of(reply.message());
    return {reply.code(), std::string(words.empty() ? m4_strerror(reply.code()) : words),
            reply.retry_after_ms()};
}

m4_usage usage_of(const wire::Usage* usage) {
    m4_usage known = {};
    known.size = sizeof known;
    if (usage != nullptr) {
        known.prompt_tokens = usage->prompt_tokens();
        known.cached_tokens = usage->cached_tokens();
        known.output_tokens = usage->output_tokens();
        known.queue_us = usage->queue_us();
        known.ttft_us = usage->ttft_us();
        known.total_us = usage->total_us();
    }
    return known;
}

bool StreamState::take(const wire::Frame& frame) {
    if (const auto* chunk = frame.body_as_GenerateChunk()) {
        append(protocol::text_of(chunk->text()), protocol::span_of(chunk->ids()));
        return true;
    }
    if (const auto* done = frame.body_as_GenerateDone()) {
        const m4_finish finish = finish_of(done->finish());
        append(protocol::text_of(done->text()), protocol::span_of(done->ids()));
        usage_ = usage_of(done->usage());
        finish_ = finish;
        ended_ = true;
        return true;
    }
    if (const auto* error = frame.body_as_ErrorReply()) {
        fail(error_of(*error));
        return true;
    }
    return false;
}

void StreamState::append(std::string_view text, std::span<const std::uint32_t> ids) {
    if (abandoned_) {
        return;
    }
    pending_.text.append(text);
    pending_.ids.insert(pending_.ids.end(), ids.begin(), ids.end());
}

m4_event StreamState::take_event() {
    std::swap(current_, pending_);
    pending_.text.clear();
    pending_.ids.clear();
    m4_event event = {};
    event.size = sizeof event;
    event.text = current_.text.c_str();
    event.text_bytes = current_.text.size();
    event.ids = current_.ids.data();
    event.id_count = current_.ids.size();
    if (ended_ && !error_) {
        event.finish = finish_;
        taken_ = true;
    }
    return event;
}

}  // namespace m4::client
