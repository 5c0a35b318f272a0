// SPDX-License-Identifier: MIT
#include <string>

#include "boundary.hpp"
#include "media.hpp"
#include "options.hpp"
#include "text.hpp"

using namespace m4::client;
namespace wire = m4::wire;
namespace protocol = m4::protocol;
using protocol::Encoder;
using protocol::span_of;
using protocol::text_of;

namespace {

constexpr std::size_t kMaxPrompt = 4096;

/// What the caller gets, with the memory its pointers lead to.
struct OwnedTranscript : m4_transcript {
    struct Piece {
        std::uint64_t start_ms = 0;
        std::uint64_t end_ms = 0;
        std::vector<std::uint32_t> ids;
        std::string text;
    };
    std::vector<Piece> pieces;
    std::vector<m4_segment> owned_segments;
    std::string all_text;

    void add(const wire::TranscribeChunk& chunk) {
        const auto ids = span_of(chunk.ids());
        pieces.push_back({chunk.start_ms(),
                          chunk.end_ms(),
                          {ids.begin(), ids.end()},
                          std::string(text_of(chunk.text()))});
    }

    void finish(const wire::TranscribeDone& done) {
        for (const Piece& piece : pieces) {
            m4_segment segment = {};
            segment.start_ms = piece.start_ms;
            segment.end_ms = piece.end_ms;
            segment.text = piece.text.c_str();
            segment.ids = piece.ids.data();
            segment.id_count = piece.ids.size();
            owned_segments.push_back(segment);
            all_text += piece.text;
        }
        size = sizeof(m4_transcript);
        segment_count = owned_segments.size();
        segments = owned_segments.data();
        text = all_text.c_str();
        windows = done.windows();
        copy_text(language, text_of(done.language()));
        copy_text(part, text_of(done.part()));
    }
};

void check_options(const m4_transcribe_options& options) {
    if (options.translate > 1 || options.timestamps > 1) {
        throw invalid("translate or timestamps is neither 0 nor 1");
    }
    if (options.prompt_count > kMaxPrompt) {
        throw invalid("the prompt has more than " + std::to_string(kMaxPrompt) + " tokens");
    }
    if (options.prompt_count != 0 && options.prompt == nullptr) {
        throw invalid("prompt is NULL");
    }
}

flatbuffers::Offset<wire::TranscribeRequest> encode_request(Encoder& encoder,
                                                            const MediaInputs& media,
                                                            const m4_transcribe_options& options) {
    const auto text = [](const char* given) { return given == nullptr ? "" : given; };
    auto& builder = encoder.builder();
    const auto part = builder.CreateString(text(options.part));
    const auto language = builder.CreateString(text(options.language));
    const auto prompt = builder.CreateVector(options.prompt, options.prompt_count);
    const auto placed = media.put(encoder);
    return wire::CreateTranscribeRequest(
        builder, part, placed.tables.at(0), placed.data, language, options.translate != 0,
        options.timestamps != 0, options.beam == 0 ? 1 : options.beam, options.max_tokens, prompt);
}

}  // namespace

int m4_transcribe(m4_client* client, const struct m4_media* input,
                  const struct m4_transcribe_options* options, struct m4_transcript** transcript) {
    return guarded(client, [&] {
        const m4_transcribe_options known = read_options(options, "m4_transcribe_options");
        check_options(known);
        check_pointer(transcript, "transcript");
        Connection& connection = *client->connection;
        connection.require_minor(protocol::kMinorOfSenses, "m4_transcribe");
        const MediaInputs media(&input, 1);
        const std::uint64_t id = connection.next_id();
        Encoder encoder;
        const auto body = encode_request(encoder, media, known);
        connection.send(encoder.finish(id, body), connection.deadline());
        auto made = std::make_unique<OwnedTranscript>();
        for (;;) {
            // The limit is for each part of the answer.
            const wire::Frame& frame = connection.await(id, connection.deadline());
            const auto* chunk = frame.body_as_TranscribeChunk();
            if (chunk == nullptr) {
                made->finish(connection.reply_as<wire::TranscribeDone>(frame));
                *transcript = made.release();
                return M4_OK;
            }
            try {
                made->add(*chunk);
            } catch (...) {
                connection.give_up(id);
                throw;
            }
        }
    });
}

void m4_transcript_free(struct m4_transcript* transcript) {
    delete static_cast<OwnedTranscript*>(transcript);
}
