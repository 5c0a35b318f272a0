// SPDX-License-Identifier: MIT
// Several clients at once, good and bad; limits; and how the service ends.
#include <doctest/doctest.h>
#include <m4client.h>
#include <sys/socket.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "service_bench.hpp"

using namespace m4;
using test::RawClient;
using test::Service;
using test::ServiceOptions;

namespace {

/// Generates for ever and reads nothing. The service pauses it.
void stall(RawClient& client) {
    client.ask_generate(client.prepare("stalled"), 0);
}

std::uint64_t generated(RawClient& client) {
    return client.expect<wire::StatusReply>(client.ask_status())
        .frame()
        .body_as_StatusReply()
        ->tokens_generated();
}

}  // namespace

TEST_CASE("eight clients, three of them bad, five served exactly") {
    ServiceOptions options;
    options.backend.context_length = 100'000;
    options.backend.pool_pages = 250'000;
    options.sched.unread_bytes = 4096;
    options.backend.rule = [](std::span<const std::uint32_t> history) {
        // Depends on the prompt's first byte and on the position.
        return test::ByteText::kFirstByte + 'a' +
               static_cast<std::uint32_t>((history.front() + history.size() * 7) % 26);
    };
    Service service(options);
    RawClient stalled(service);
    stall(stalled);
    auto killed = std::make_unique<RawClient>(service);
    killed->ask_generate(killed->prepare("killed"), 0);
    (void)killed->receive();
    RawClient garbage(service);

    constexpr std::size_t kGood = 5;
    std::vector<RawClient::Generated> got(kGood);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kGood; ++i) {
        threads.emplace_back([&, i] {
            RawClient client(service);
            const std::string prompt(1, static_cast<char>('A' + i));
            const auto session = client.prepare(prompt);
            for (int round = 0; round < 3; ++round) {
                auto part = client.collect(client.ask_generate(session, 50));
                got[i].text += part.text;
                got[i].finish = part.finish;
            }
        });
    }
    killed.reset();
    const std::string bytes(1000, '\x5a');
    garbage.send_raw(std::as_bytes(std::span(bytes)));
    garbage.expect_refusal(M4_E_PROTOCOL);
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (std::size_t i = 0; i < kGood; ++i) {
        const std::string prompt(1, static_cast<char>('A' + i));
        CHECK(got[i].text == test::continuation(options.backend.rule, prompt, 150));
        CHECK(got[i].finish == wire::Finish::length);
    }
    RawClient witness(service);
    test::eventually([&] { return witness.session_count() == 1; });  // the stalled one's
}

TEST_CASE("a stalled client's request stands still until it reads") {
    ServiceOptions options;
    options.backend.context_length = 200'000;
    options.backend.pool_pages = 50'000;
    options.sched.unread_bytes = 4096;
    options.backend.rule = test::follow("abcdefghijklmnopqrstuvwxyz");
    Service service(options);
    RawClient witness(service);
    RawClient stalled(service);
    const int small = 4096;
    REQUIRE(setsockopt(stalled.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    const auto session = stalled.prepare("a");
    const auto request = stalled.ask_generate(session, 20'000);
    // It stands when the count no longer moves while others are served.
    std::uint64_t before = 0;
    test::eventually([&] {
        const std::uint64_t now = generated(witness);
        RawClient other(service);
        const auto text = other.collect(other.ask_generate(other.prepare("b"), 100)).text;
        CHECK(text.size() == 100);
        const bool still = now == before;
        before = now + 100;
        return still && now > 0;
    });
    CHECK(before < 20'000);
    const auto all = stalled.collect(request);
    CHECK(all.ids.size() == 20'000);
    CHECK(all.finish == wire::Finish::length);
}

TEST_CASE("a flood of questions is answered at the pace it is read") {
    Service service;
    RawClient client(service);
    constexpr std::uint64_t kQuestions = 3000;
    std::thread asking([&] {
        for (std::uint64_t i = 0; i < kQuestions; ++i) {
            protocol::Encoder encoder;
            client.send(encoder.finish(100 + i, wire::CreateStatusRequest(encoder.builder())));
        }
    });
    for (std::uint64_t i = 0; i < kQuestions; ++i) {
        const auto reply = client.receive();
        REQUIRE(reply.has_value());
        CHECK(reply->frame().id() == 100 + i);
    }
    asking.join();
}

TEST_CASE("clients and strangers are limited") {
    ServiceOptions options;
    options.ipc.clients_total = 4;
    options.ipc.clients_per_uid = 3;
    options.ipc.strangers = 4;
    Service service(options);
    auto first = std::make_unique<RawClient>(service);
    const RawClient second(service);
    const RawClient third(service);
    RawClient refused = RawClient::stranger(service);
    const auto hello = refused.ask([](protocol::Encoder& e) {
        return wire::CreateHelloDirect(e.builder(), protocol::kVersionMajor, 0, 0, "fourth");
    });
    refused.expect_error(hello, M4_E_BUSY);
    refused.expect_end();
    // Strangers fill what room there is; who comes then waits in line.
    std::vector<RawClient> strangers;
    for (int i = 0; i < 6; ++i) {
        strangers.push_back(RawClient::stranger(service));
    }
    strangers.clear();
    first.reset();
    test::eventually([&] {
        RawClient client = RawClient::stranger(service);
        const auto again = client.ask([](protocol::Encoder& e) {
            return wire::CreateHelloDirect(e.builder(), protocol::kVersionMajor, 0, 0, "again");
        });
        const auto reply = client.receive();
        REQUIRE(reply.has_value());
        REQUIRE(reply->frame().id() == again);
        return reply->frame().body_as_HelloReply() != nullptr;
    });
}

TEST_CASE("a lost device is told to all, and the loop ends with its code") {
    auto gate = std::make_shared<test::Gate>();
    ServiceOptions options;
    options.backend.gate = gate;
    Service service(options);
    RawClient client(service);
    RawClient other(service);
    const auto session = client.prepare("abc");
    const auto other_session = other.prepare("def");
    gate->close();
    const auto request = client.ask_generate(session, 0);
    const auto other_request = other.ask_generate(other_session, 0);
    gate->await_arrival();
    service.lose_device();
    gate->open();
    client.expect_error(request, M4_E_GPU_LOST);
    other.expect_error(other_request, M4_E_GPU_LOST);
    CHECK(service.exit_code() == 4);
}

TEST_CASE("a lost image fails requests with VERIFY; the service stays and says so") {
    auto gate = std::make_shared<test::Gate>();
    ServiceOptions options;
    options.backend.gate = gate;
    Service service(options);
    RawClient client(service);
    const auto session = client.prepare("abc");
    const auto state = [](RawClient& who) {
        const auto reply = who.expect<wire::StatusReply>(who.ask_status());
        return std::string(protocol::text_of(reply.frame().body_as_StatusReply()->model_state()));
    };
    CHECK(state(client) == "ready");
    SUBCASE("while it computes") {
        gate->close();
        const auto request = client.ask_generate(session, 0);
        gate->await_arrival();
        service.lose_image();
        gate->open();
        client.expect_error(request, M4_E_VERIFY);
    }
    SUBCASE("idle") {
        service.revoke_image("the kernel revoked the image");
        test::eventually([&] { return state(client) == "revoked"; });
    }
    client.expect_error(client.ask_generate(session, 1), M4_E_VERIFY);
    client.expect_error(client.ask_append(session, "more"), M4_E_VERIFY);
    const auto detokenize = client.ask([&](protocol::Encoder& e) {
        const auto bulk = e.put_ids(std::vector<std::uint32_t>{70});
        return wire::CreateDetokenizeRequest(e.builder(), bulk);
    });
    client.expect_error(detokenize, M4_E_VERIFY);
    RawClient newcomer(service);
    CHECK(state(newcomer) == "revoked");
    const auto model = newcomer.expect<wire::ModelInfoReply>(newcomer.ask(
        [](protocol::Encoder& e) { return wire::CreateModelInfoRequest(e.builder()); }));
    CHECK(protocol::text_of(model.frame().body_as_ModelInfoReply()->state()) == "revoked");
    service.drain();
    CHECK(service.exit_code() == 0);
}

TEST_CASE("after a handover who is here is served, and the last one ends it") {
    ServiceOptions options;
    options.backend.context_length = 4000;
    Service service(options);
    RawClient client(service);
    RawClient silent = RawClient::stranger(service);
    const auto session = client.prepare("abc");
    const auto state = [&] {
        const auto reply = client.expect<wire::StatusReply>(client.ask_status());
        return std::string(protocol::text_of(reply.frame().body_as_StatusReply()->model_state()));
    };
    service.hand_over();
    test::eventually([&] { return state() == "draining"; });
    CHECK(client.collect(client.ask_generate(session, 50)).text ==
          test::continuation(test::next_letter, "abc", 50));
    SUBCASE("by hanging up") {
        client.hang_up();
        silent.hang_up();
    }
    SUBCASE("by SIGTERM, which need not wait for them") {
        service.drain();
    }
    CHECK(service.exit_code() == 0);
    CHECK(std::filesystem::exists(service.socket()));  // the other process's
}

TEST_CASE("after a handover who stays is sent away in time, busy or idle") {
    ServiceOptions options;
    options.backend.context_length = 1'000'000;
    options.backend.pool_pages = 250'000;
    options.backend.rule = test::follow("abcdefghijklmnopqrstuvwxyz");
    bool lost_before = false;
    bool lost_after = false;
    SUBCASE("the limit") {
        options.ipc.handover_ms = 50;
    }
    SUBCASE("at once from a lost image") {
        lost_before = true;
    }
    SUBCASE("at once when the image is lost later") {
        lost_after = true;
    }
    Service service(options);
    RawClient idle(service);
    RawClient busy(service);
    const auto request = busy.ask_generate(busy.prepare("abc"), 0);
    (void)busy.expect<wire::GenerateChunk>(request);
    const std::string why = "the fake image is revoked";
    if (lost_before) {
        service.revoke_image(why);
    }
    service.hand_over();
    if (lost_after) {
        service.revoke_image(why);
    }
    for (RawClient* client : {&idle, &busy}) {
        std::string last;
        while (const auto reply = client->receive()) {
            if (const auto* error = reply->frame().body_as_ErrorReply()) {
                last = protocol::text_of(error->message());
                CHECK(error->code() == (reply->frame().id() == 0 ? M4_E_UNAVAILABLE : M4_E_VERIFY));
            }
        }
        CHECK(last == "the model was updated: connect again");
    }
    CHECK(service.exit_code() == 0);
}

TEST_CASE("at the end running requests are cancelled, and the socket goes") {
    ServiceOptions options;
    options.backend.context_length = 1'000'000;
    options.backend.pool_pages = 250'000;
    options.backend.rule = test::follow("abcdefghijklmnopqrstuvwxyz");
    options.ipc.drain_ms = 50;
    Service service(options);
    RawClient client(service);
    const auto request = client.ask_generate(client.prepare("abc"), 0);
    (void)client.expect<wire::GenerateChunk>(request);
    service.drain();
    CHECK(client.collect(request).finish == wire::Finish::cancelled);
    CHECK(service.exit_code() == 0);
    CHECK(!std::filesystem::exists(service.socket()));
}

TEST_CASE("with nothing to wait for the end comes at once") {
    Service service;
    RawClient client(service);
    client.prepare("abc");
    service.drain();
    CHECK(service.exit_code() == 0);
}
