// SPDX-License-Identifier: MIT
// m4_transcribe against a scripted service.
#include <doctest/doctest.h>
#include <m4client.h>

#include <cstring>
#include <string>
#include <vector>

#include "fake_service.hpp"
#include "fd_leak.hpp"

using namespace m4;
using namespace m4::test;

namespace {

const std::vector<std::uint32_t> kIds = {1, 2};
const std::vector<std::uint8_t> kText = {'h', 'i'};

struct Sound {
    std::vector<std::int16_t> samples = std::vector<std::int16_t>(160, 7);
    m4_media media = M4_INIT(struct m4_media);

    Sound() {
        media.kind = M4_MEDIA_PCM16;
        media.data = samples.data();
        media.bytes = samples.size() * sizeof(std::int16_t);
        media.channels = 1;
        media.rate_hz = 16'000;
    }
};

/// Of a service that knows transcripts.
void greet(Conversation& talk) {
    (void)talk.expect<wire::Hello>();
    talk.send(talk.id, [](protocol::Encoder& e) {
        return wire::CreateHelloReplyDirect(e.builder(), protocol::kVersionMajor,
                                            protocol::kVersionMinor, 0, "0.1.0");
    });
}

void send_segment(Conversation& talk, std::uint64_t start_ms) {
    talk.send(talk.id, [&](protocol::Encoder& e) {
        return wire::CreateTranscribeChunkDirect(e.builder(), start_ms, start_ms + 500, &kIds,
                                                 &kText);
    });
}

}  // namespace

TEST_CASE("a transcript is put together from its segments") {
    const FdLeakCheck leaks;
    FakeService service(
        [](Conversation& talk) {
            greet(talk);
            const auto& asked = talk.expect<wire::TranscribeRequest>();
            CHECK(protocol::text_of(asked.part()) == "ear");
            CHECK(protocol::text_of(asked.language()) == "de");
            CHECK(asked.translate());
            CHECK(!asked.timestamps());
            CHECK(asked.beam() == 1);
            CHECK(asked.max_tokens() == 9);
            CHECK(protocol::span_of(asked.prompt()).size() == 2);
            CHECK(asked.input()->kind() == wire::MediaKind::pcm16);
            CHECK(asked.input()->samples() == 160);
            CHECK(asked.data()->bytes()->size() == 320);
            send_segment(talk, 0);
            send_segment(talk, 30'000);
            talk.send_sample(talk.id, wire::Body::TranscribeDone);
        },
        false);
    const ClientHandle client = connect_to(service);
    const Sound sound;
    m4_transcribe_options options = M4_INIT(struct m4_transcribe_options);
    options.part = "ear";
    options.language = "de";
    options.translate = 1;
    options.max_tokens = 9;
    options.prompt = kIds.data();
    options.prompt_count = kIds.size();
    m4_transcript* transcript = nullptr;
    REQUIRE(m4_transcribe(client.get(), &sound.media, &options, &transcript) == M4_OK);
    REQUIRE(transcript->segment_count == 2);
    CHECK(transcript->segments[1].start_ms == 30'000);
    CHECK(transcript->segments[1].end_ms == 30'500);
    CHECK(std::string(transcript->segments[1].text) == "hi");
    REQUIRE(transcript->segments[1].id_count == 2);
    CHECK(transcript->segments[1].ids[1] == 2);
    CHECK(std::string(transcript->text) == "hihi");
    CHECK(std::string(transcript->language) == "de");
    CHECK(std::string(transcript->part) == "ear-text");
    CHECK(transcript->windows == 3);
    m4_transcript_free(transcript);
    m4_transcript_free(nullptr);
}

TEST_CASE("a transcript that fails on its way leaves nothing behind") {
    const FdLeakCheck leaks;
    FakeService service(
        [](Conversation& talk) {
            greet(talk);
            (void)talk.expect<wire::TranscribeRequest>();
            send_segment(talk, 0);
            talk.send_error(talk.id, M4_E_INVALID, "sample 7 is not finite");
            // What is no part of a transcript breaks the protocol.
            (void)talk.expect<wire::TranscribeRequest>();
            talk.send_sample(talk.id, wire::Body::ScoreDone);
            talk.await_hangup();
        },
        false);
    const ClientHandle client = connect_to(service);
    const Sound sound;
    m4_transcript* transcript = nullptr;
    CHECK(m4_transcribe(client.get(), &sound.media, nullptr, &transcript) == M4_E_INVALID);
    CHECK(error_text(client.get()).find("sample 7") != std::string::npos);
    CHECK(m4_transcribe(client.get(), &sound.media, nullptr, &transcript) == M4_E_PROTOCOL);
    CHECK(transcript == nullptr);
}

TEST_CASE("options of a transcript that cannot be are refused before anything is sent") {
    FakeService service(
        [](Conversation& talk) {
            greet(talk);
            talk.await_hangup();
        },
        false);
    {
        const ClientHandle client = connect_to(service);
        const Sound sound;
        m4_transcript* transcript = nullptr;
        const auto refused = [&](const m4_transcribe_options& options) {
            return m4_transcribe(client.get(), &sound.media, &options, &transcript) == M4_E_INVALID;
        };
        m4_transcribe_options options = M4_INIT(struct m4_transcribe_options);
        options.translate = 2;
        CHECK(refused(options));
        options.translate = 0;
        options.prompt_count = 1;
        CHECK(refused(options));
        options.prompt = kIds.data();
        options.prompt_count = 5000;
        CHECK(refused(options));
        options.prompt_count = 0;
        options.size = 3;
        CHECK(refused(options));
        CHECK(m4_transcribe(client.get(), nullptr, nullptr, &transcript) == M4_E_INVALID);
        CHECK(m4_transcribe(client.get(), &sound.media, nullptr, nullptr) == M4_E_INVALID);
        CHECK(m4_transcribe(nullptr, &sound.media, nullptr, &transcript) == M4_E_INVALID);
    }
}
