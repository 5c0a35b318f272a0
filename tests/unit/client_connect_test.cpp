// SPDX-License-Identifier: MIT
// libm4client against a scripted peer: connecting.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "fake_service.hpp"
#include "fd_leak.hpp"

using namespace m4;
using namespace m4::test;
using protocol::Encoder;

namespace {

int connect_path(const std::string& path, int timeout_ms = 5000) {
    m4_connect_options options = M4_INIT(m4_connect_options);
    options.socket_path = path.c_str();
    options.timeout_ms = timeout_ms;
    m4_client* client = nullptr;
    const int status = m4_client_connect(&options, &client);
    CHECK(client == nullptr);
    return status;
}

}  // namespace

TEST_CASE("connect: hello carries version and name") {
    const FdLeakCheck leaks;
    FakeService service(
        [](Conversation& talk) {
            const auto& hello = talk.expect<wire::Hello>();
            if (hello.version_major() != 1 || protocol::text_of(hello.client_name()) != "test") {
                throw std::runtime_error("wrong hello");
            }
            talk.send_sample(talk.id, wire::Body::HelloReply);
            talk.await_hangup();
        },
        false);
    const ClientHandle client = connect_to(service);
    CHECK(m4_client_fd(client.get()) >= 0);
}

TEST_CASE("connect: nobody there, and things that are no service") {
    const FdLeakCheck leaks;
    CHECK(connect_path("/nonexistent/m4d.sock") == M4_E_UNAVAILABLE);
    CHECK(error_text(nullptr).find("/nonexistent/m4d.sock: No such file") == 0);
    CHECK(connect_path(std::string(300, 'x')) == M4_E_INVALID);
    CHECK(connect_path("/dev/null") == M4_E_UNAVAILABLE);
    CHECK(connect_path("/tmp", -1) == M4_E_INVALID);

    char reason[64];
    CHECK(m4_availability("/nonexistent/m4d.sock", reason, sizeof reason) ==
          M4_UNAVAILABLE_NO_SERVICE);
    CHECK(std::string(reason).find("No such file") != std::string::npos);
    CHECK(m4_availability("/nonexistent/m4d.sock", nullptr, 0) == M4_UNAVAILABLE_NO_SERVICE);
    char one[1] = {'x'};
    CHECK(m4_availability("/nonexistent/m4d.sock", one, 1) == M4_UNAVAILABLE_NO_SERVICE);
    CHECK(one[0] == '\0');

    char pattern[] = "/tmp/m4-stream-XXXXXX";
    REQUIRE(::mkdtemp(pattern) != nullptr);
    const std::string path = std::string(pattern) + "/sock";
    UniqueFd stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(::bind(stream.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    CHECK(connect_path(path) == M4_E_UNAVAILABLE);  // bound, not listening
    REQUIRE(::listen(stream.get(), 1) == 0);
    CHECK(connect_path(path) == M4_E_UNAVAILABLE);  // of another socket type
    ::unlink(path.c_str());
    ::rmdir(pattern);
}

TEST_CASE("connect: the environment names the socket, an option overrides it") {
    ::setenv("M4_SOCKET", "/nonexistent/from-environment", 1);
    m4_client* client = nullptr;
    CHECK(m4_client_connect(nullptr, &client) == M4_E_UNAVAILABLE);
    CHECK(error_text(nullptr).find("/nonexistent/from-environment") == 0);
    CHECK(connect_path("/nonexistent/from-option") == M4_E_UNAVAILABLE);
    CHECK(error_text(nullptr).find("/nonexistent/from-option") == 0);
    ::unsetenv("M4_SOCKET");
}

TEST_CASE("connect: another protocol version is refused, whoever notices") {
    SUBCASE("by us") {
        FakeService service(
            [](Conversation& talk) {
                (void)talk.expect<wire::Hello>();
                talk.send(talk.id, [](Encoder& e) {
                    return wire::CreateHelloReplyDirect(e.builder(), 2, 0, 0, "9.9");
                });
                talk.await_hangup();
            },
            false);
        CHECK(connect_path(service.path()) == M4_E_VERSION);
        CHECK(error_text(nullptr).find("protocol 2") != std::string::npos);
    }
    SUBCASE("by the service") {
        FakeService service(
            [](Conversation& talk) {
                (void)talk.expect<wire::Hello>();
                talk.send_error(talk.id, M4_E_VERSION, "this service speaks 2");
            },
            false);
        char reason[64];
        CHECK(m4_availability(service.path().c_str(), reason, sizeof reason) ==
              M4_UNAVAILABLE_VERSION);
        CHECK(std::string(reason) == "this service speaks 2");
    }
}

TEST_CASE("connect: a service that refuses everyone is still heard") {
    const FdLeakCheck leaks;
    FakeService service(
        [](Conversation& talk) { talk.send_error(0, M4_E_BUSY, "64 clients already", 250); },
        false);
    CHECK(connect_path(service.path()) == M4_E_BUSY);
    m4_error_info info = M4_INIT(m4_error_info);
    REQUIRE(m4_client_error(nullptr, &info) == 0);
    CHECK(info.code == M4_E_BUSY);
    CHECK(info.retry_after_ms == 250);
    CHECK(std::string(info.message) == "64 clients already");
}

TEST_CASE("connect: a service that never answers") {
    FakeService service([](Conversation& talk) { talk.await_hangup(); }, false);
    CHECK(connect_path(service.path(), 30) == M4_E_TIMEOUT);
}
