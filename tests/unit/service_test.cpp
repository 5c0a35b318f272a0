// SPDX-License-Identifier: MIT
// One client at a time over a real socket: what is served and what is refused.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <m4client.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "service_bench.hpp"

using namespace m4;
using test::ByteText;
using test::RawClient;
using test::Service;
using test::ServiceOptions;

namespace {

std::size_t open_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator("/proc/self/fd")) {
        ++count;
    }
    return count;
}

protocol::Packet hello_of(std::uint16_t major, std::uint64_t id = 1) {
    protocol::Encoder encoder;
    return encoder.finish(id, wire::CreateHelloDirect(encoder.builder(), major, 0, ~0ULL, "x"));
}

std::vector<std::byte> noise(std::size_t count) {
    std::vector<std::byte> bytes(count);
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<std::byte>(i * 37 + 11);
    }
    return bytes;
}

}  // namespace

TEST_CASE("hello, status, model") {
    Service service;
    RawClient client(service);
    const auto status = client.expect<wire::StatusReply>(client.ask_status());
    CHECK(protocol::text_of(status.frame().body_as_StatusReply()->server_version()) == "1.2.3");
    CHECK(status.frame().body_as_StatusReply()->clients() == 1);
    const auto model = client.expect<wire::ModelInfoReply>(
        client.ask([](protocol::Encoder& e) { return wire::CreateModelInfoRequest(e.builder()); }));
    CHECK(model.frame().body_as_ModelInfoReply()->vocabulary() == ByteText::kVocabulary);
    CHECK(model.frame().body_as_ModelInfoReply()->digest()->size() == 32);
}

TEST_CASE("only features both sides know are in force") {
    Service service;
    RawClient client = RawClient::stranger(service);
    client.send(hello_of(protocol::kVersionMajor, 9));
    const auto reply = client.expect<wire::HelloReply>(9);
    CHECK(reply.frame().body_as_HelloReply()->features() == protocol::kFeatures);
    CHECK(reply.frame().body_as_HelloReply()->version_major() == protocol::kVersionMajor);
}

TEST_CASE("a session from prompt to text") {
    Service service;
    RawClient client(service);
    const auto session = client.prepare("tell me");
    const auto first = client.collect(client.ask_generate(session, 20));
    CHECK(first.finish == wire::Finish::length);
    CHECK(first.text == test::continuation(test::next_letter, "tell me", 20));
    CHECK(first.ids == ByteText().encode(first.text, false));
    const auto cut = client.ask([&](protocol::Encoder& e) {
        return wire::CreateSessionTruncateRequest(e.builder(), session, 7);
    });
    CHECK(client.expect<wire::SessionReply>(cut).frame().body_as_SessionReply()->position() == 7);
    const auto second = client.collect(client.ask_generate(session, 20));
    CHECK(second.text == first.text);
    CHECK(second.cached_tokens == 6);

    const auto list = client.expect<wire::SessionListReply>(client.ask(
        [](protocol::Encoder& e) { return wire::CreateSessionListRequest(e.builder()); }));
    const auto* entries = list.frame().body_as_SessionListReply()->entries();
    REQUIRE(entries->size() == 1);
    CHECK(entries->Get(0)->position() == 27);
    CHECK(entries->Get(0)->tokens_generated() == 40);
    CHECK(protocol::text_of(entries->Get(0)->client_name()) == "test");
    CHECK(entries->Get(0)->pid() == getpid());

    const auto close = client.ask([&](protocol::Encoder& e) {
        return wire::CreateSessionCloseRequest(e.builder(), session);
    });
    (void)client.expect<wire::OkReply>(close);
    client.expect_error(client.ask_generate(session, 1), M4_E_NOT_FOUND);
}

TEST_CASE("status counts what its asker did before") {
    Service service;
    RawClient client(service);
    for (std::uint32_t round = 0; round < 50; ++round) {
        const auto session = client.create_session();
        const auto close = client.ask([&](protocol::Encoder& e) {
            return wire::CreateSessionCloseRequest(e.builder(), session);
        });
        const auto status = client.ask_status();
        (void)client.expect<wire::OkReply>(close);
        const auto reply = client.expect<wire::StatusReply>(status);
        CHECK(reply.frame().body_as_StatusReply()->sessions() == 0);
        CHECK(reply.frame().body_as_StatusReply()->kv_used_bytes() == 0);
    }
}

TEST_CASE("a generation is cancelled by its id") {
    ServiceOptions options;
    options.backend.context_length = 4000;
    Service service(options);
    RawClient client(service);
    const auto request = client.ask_generate(client.prepare("go"), 0);
    (void)client.expect<wire::GenerateChunk>(request);
    client.ask_cancel(request);
    CHECK(client.collect(request).finish == wire::Finish::cancelled);
    client.ask_cancel(request);  // too late: no answer, no harm
    CHECK(client.session_count() == 1);
}

TEST_CASE("scores arrive whole, wide rows in parts") {
    Service service;
    RawClient client(service);
    const auto ids = ByteText().encode(std::string(90, 'n'), false);
    const auto request = client.ask([&](protocol::Encoder& e) {
        const auto bulk = e.put_ids(ids);
        return wire::CreateScoreRequest(e.builder(), bulk, ByteText::kVocabulary);
    });
    std::size_t rows = 0;
    std::size_t entries = 0;
    for (;;) {
        const auto reply = client.receive();
        REQUIRE(reply.has_value());
        CHECK(reply->frame().id() == request);
        if (reply->frame().body_as_ScoreDone() != nullptr) {
            break;
        }
        const auto* chunk = reply->frame().body_as_ScoreChunk();
        REQUIRE(chunk != nullptr);
        CHECK(std::size_t{chunk->first()} * ByteText::kVocabulary + chunk->top_offset() == entries);
        rows += chunk->token_logprobs()->size();
        entries += chunk->top_ids()->size();
    }
    CHECK(rows == 90);
    CHECK(entries == 90 * ByteText::kVocabulary);
}

TEST_CASE("long texts travel beside the message and keep their place in line") {
    ServiceOptions options;
    options.backend.context_length = 100'000;
    options.backend.pool_pages = 25'000;
    options.backend.max_step_rows = 4096;
    options.backend.rule = [](std::span<const std::uint32_t> history) {
        return ByteText::kFirstByte + 'a' + static_cast<std::uint32_t>(history.size() % 26);
    };
    Service service(options);
    RawClient client(service);
    const std::string text(90'000, 'w');
    const auto session = client.create_session();
    // All three at once: the generation waits for the text before it. Answers
    // of different requests come in any order.
    const auto append = client.ask_append(session, text);
    const auto generate = client.ask_generate(session, 3);
    const auto tokenize = client.ask([&](protocol::Encoder& e) {
        const auto bulk = e.put_text(text);
        return wire::CreateTokenizeRequest(e.builder(), bulk, true);
    });
    std::vector<std::uint32_t> ids;
    std::size_t generated = 0;
    std::uint32_t position = 0;
    for (bool done = false; !done || ids.empty();) {
        auto reply = client.receive();
        REQUIRE(reply.has_value());
        if (reply->frame().id() == tokenize) {
            const auto* tokens = reply->frame().body_as_TokensReply();
            REQUIRE(tokens != nullptr);
            CHECK(tokens->ids()->in_fd());
            REQUIRE(protocol::take_ids(tokens->ids(), reply->fd(), 1U << 20, ids) ==
                    protocol::Fault::kNone);
        } else if (reply->frame().id() == append) {
            CHECK(generated == 0);
            const auto* state = reply->frame().body_as_SessionReply();
            REQUIRE(state != nullptr);
            position = state->position();
        } else {
            REQUIRE(reply->frame().id() == generate);
            if (const auto* chunk = reply->frame().body_as_GenerateChunk()) {
                generated += chunk->ids()->size();
            } else if (const auto* last = reply->frame().body_as_GenerateDone()) {
                generated += last->ids()->size();
                done = true;
            }
        }
    }
    CHECK(position == text.size());
    CHECK(generated == 3);
    CHECK(ids == ByteText().encode(text, true));

    const auto detokenize = client.ask([&](protocol::Encoder& e) {
        const auto bulk = e.put_ids(ids);
        return wire::CreateDetokenizeRequest(e.builder(), bulk);
    });
    auto reply = client.expect<wire::TextReply>(detokenize);
    protocol::BulkBytes bytes;
    REQUIRE(protocol::take_bulk(reply.frame().body_as_TextReply()->text(), reply.fd(), 1U << 20,
                                bytes) == protocol::Fault::kNone);
    CHECK(bytes.text() == text);
}

TEST_CASE("what is over a limit fails alone") {
    Service service;
    RawClient client(service);
    const auto session = client.create_session();
    client.expect_error(client.ask_append(session, std::string((1U << 20) + 1, 'x')),
                        M4_E_TOO_LARGE);
    client.expect_error(client.ask_append(session, std::string(257, 'x')), M4_E_CONTEXT_FULL);
    const std::vector<std::uint32_t> ids((1U << 18) + 1, 5);
    const auto score = client.ask([&](protocol::Encoder& e) {
        const auto bulk = e.put_ids(ids);
        return wire::CreateScoreRequest(e.builder(), bulk, 0);
    });
    client.expect_error(score, M4_E_TOO_LARGE);
    const std::array<std::uint32_t, 1> unknown{ByteText::kVocabulary};
    const auto detokenize = client.ask([&](protocol::Encoder& e) {
        const auto bulk = e.put_ids(unknown);
        return wire::CreateDetokenizeRequest(e.builder(), bulk);
    });
    client.expect_error(detokenize, M4_E_INVALID);
    CHECK(client.session_count() == 1);
}

TEST_CASE("who breaks the protocol hears why and is gone") {
    Service service;
    RawClient witness(service);
    SUBCASE("no hello first") {
        RawClient client = RawClient::stranger(service);
        client.ask_status();
        client.expect_refusal(M4_E_PROTOCOL);
    }
    SUBCASE("another version") {
        RawClient client = RawClient::stranger(service);
        client.send(hello_of(protocol::kVersionMajor + 1));
        client.expect_error(1, M4_E_VERSION);
        client.expect_end();
    }
    SUBCASE("a second hello") {
        RawClient client(service);
        client.send(hello_of(protocol::kVersionMajor, 77));
        client.expect_refusal(M4_E_PROTOCOL);
    }
    SUBCASE("garbage before and after the hello") {
        for (const std::size_t size : {1U, 7U, 100U, 65'536U}) {
            RawClient stranger = RawClient::stranger(service);
            stranger.send_raw(noise(size));
            stranger.expect_refusal(M4_E_PROTOCOL);
            RawClient client(service);
            client.send_raw(noise(size));
            client.expect_refusal(M4_E_PROTOCOL);
        }
    }
    SUBCASE("an oversized message") {
        RawClient client(service);
        client.send_raw(noise(65'537));
        client.expect_refusal(M4_E_PROTOCOL);
    }
    SUBCASE("an empty message") {
        RawClient client(service);
        client.send_raw({});
        client.expect_end();
    }
    SUBCASE("a reply sent as a request") {
        RawClient client(service);
        client.ask([](protocol::Encoder& e) { return wire::CreateOkReply(e.builder()); });
        client.expect_refusal(M4_E_PROTOCOL);
    }
    SUBCASE("an append of both or neither") {
        RawClient client(service);
        const auto session = client.create_session();
        client.ask([&](protocol::Encoder& e) {
            return wire::CreateSessionAppendRequest(e.builder(), session);
        });
        client.expect_refusal(M4_E_PROTOCOL);
    }
    SUBCASE("an id in use") {
        auto gate = std::make_shared<test::Gate>();
        ServiceOptions options;
        options.backend.gate = gate;
        Service gated(options);
        RawClient client(gated);
        const auto session = client.prepare("abc");
        gate->close();
        const auto request = client.ask_generate(session, 1);
        gate->await_arrival();
        protocol::Encoder encoder;
        client.send(encoder.finish(request, wire::CreateStatusRequest(encoder.builder())));
        client.expect_refusal(M4_E_PROTOCOL);
        gate->open();
    }
    CHECK(witness.session_count() == 0);
}

TEST_CASE("descriptors nobody asked for are closed") {
    Service service;
    RawClient witness(service);
    (void)witness.session_count();
    const std::size_t before = open_descriptors();
    {
        const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
        const std::array<int, 2> two{null.get(), null.get()};
        protocol::Encoder encoder;
        const auto status = encoder.finish(50, wire::CreateStatusRequest(encoder.builder()));
        RawClient one(service);
        one.send_raw(status.bytes, std::span(two).first(1));
        one.expect_refusal(M4_E_PROTOCOL);
        RawClient both(service);
        both.send_raw(status.bytes, two);
        both.expect_refusal(M4_E_PROTOCOL);
        RawClient unsealed(service);
        protocol::Encoder tokenize;
        const auto bulk = wire::CreateBulk(tokenize.builder(), 0, true, 10);
        const auto packet =
            tokenize.finish(51, wire::CreateTokenizeRequest(tokenize.builder(), bulk));
        unsealed.send_raw(packet.bytes, std::span(two).first(1));
        unsealed.expect_refusal(M4_E_PROTOCOL);
    }
    test::eventually([&] { return open_descriptors() == before; });
}

TEST_CASE("who says nothing is not waited for") {
    ServiceOptions options;
    options.ipc.hello_timeout_ms = 20;
    Service service(options);
    RawClient client = RawClient::stranger(service);
    client.expect_refusal(M4_E_TIMEOUT);
}

TEST_CASE("who hangs up halfway wants nothing any more") {
    ServiceOptions options;
    options.backend.context_length = 4000;
    Service service(options);
    RawClient witness(service);
    RawClient client(service);
    const auto request = client.ask_generate(client.prepare("go"), 0);
    (void)client.expect<wire::GenerateChunk>(request);
    CHECK(witness.session_count() == 1);
    REQUIRE(shutdown(client.fd(), SHUT_WR) == 0);
    while (client.receive().has_value()) {
    }
    test::eventually([&] { return witness.session_count() == 0; });
}
