// SPDX-License-Identifier: MIT
#include "fake_service.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "wire_samples.hpp"

namespace m4::test {

using protocol::Encoder;
using protocol::Fault;

namespace {

constexpr int kPatienceMs = 10000;

void check(bool good, const char* what) {
    if (!good) {
        throw std::runtime_error(what);
    }
}

}  // namespace

void Conversation::wait(short events) {
    pollfd entry = {socket_.get(), events, 0};
    check(::poll(&entry, 1, kPatienceMs) == 1, "the client did not move");
}

const wire::Frame& Conversation::receive() {
    for (;;) {
        const Fault fault = protocol::receive_packet(socket_.get(), inbox_);
        if (fault == Fault::kWouldBlock) {
            wait(POLLIN);
            continue;
        }
        check(fault == Fault::kNone, protocol::fault_text(fault));
        const protocol::Decoded decoded = protocol::decode(inbox_.bytes());
        check(decoded.frame != nullptr, protocol::fault_text(decoded.fault));
        return *decoded.frame;
    }
}

void Conversation::send_packet(const protocol::Packet& packet) {
    for (;;) {
        const Fault fault = protocol::send_packet(socket_.get(), packet);
        if (fault != Fault::kWouldBlock) {
            check(fault == Fault::kNone, protocol::fault_text(fault));
            return;
        }
        wait(POLLOUT);
    }
}

void Conversation::send_sample(std::uint64_t to, wire::Body type) {
    send_packet(wire_samples().at(type)(to));
}

void Conversation::send_raw(const std::string& bytes) {
    check(::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0, "send");
}

void Conversation::send_error(std::uint64_t to, int code, const char* message,
                              std::uint32_t retry_ms) {
    send(to, [&](Encoder& e) {
        return wire::CreateErrorReplyDirect(e.builder(), code, message, retry_ms);
    });
}

void Conversation::send_ok(std::uint64_t to) {
    send(to, [](Encoder& e) { return wire::CreateOkReply(e.builder()); });
}

void Conversation::send_session(std::uint64_t to, std::uint64_t session) {
    send(to, [&](Encoder& e) { return wire::CreateSessionReply(e.builder(), session, 3, 64); });
}

void Conversation::send_chunk(std::uint64_t to, const std::string& text,
                              std::vector<std::uint32_t> ids) {
    send(to, [&](Encoder& e) {
        const auto bytes = e.put_bytes(text);
        const auto vector = e.builder().CreateVector(ids);
        return wire::CreateGenerateChunk(e.builder(), vector, bytes);
    });
}

void Conversation::send_done(std::uint64_t to, wire::Finish finish, const std::string& text) {
    send(to, [&](Encoder& e) {
        const auto usage = wire::CreateUsage(e.builder(), 3, 1, 7, 10, 20, 30);
        const auto bytes = e.put_bytes(text);
        return wire::CreateGenerateDone(e.builder(), finish, 0, bytes, usage);
    });
}

void Conversation::greet() {
    (void)expect<wire::Hello>();
    send_sample(id, wire::Body::HelloReply);
}

void Conversation::serve_session(std::uint64_t session) {
    (void)expect<wire::SessionCreateRequest>();
    send_session(id, session);
}

void Conversation::await_hangup() {
    Fault fault = Fault::kNone;
    while (fault != Fault::kClosed) {
        fault = protocol::receive_packet(socket_.get(), inbox_);
        if (fault == Fault::kWouldBlock) {
            wait(POLLIN);
        }
    }
}

FakeService::FakeService(Script script, bool greets) {
    char pattern[] = "/tmp/m4-client-XXXXXX";
    REQUIRE(::mkdtemp(pattern) != nullptr);
    folder_ = pattern;
    path_ = folder_ + "/sock";
    listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    REQUIRE(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_.get(), 4) == 0);
    thread_ = std::thread([this, greets, script = std::move(script)] {
        try {
            pollfd entry = {listener_.get(), POLLIN, 0};
            check(::poll(&entry, 1, kPatienceMs) == 1, "nobody connected");
            Conversation talk(UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
            if (greets) {
                talk.greet();
            }
            script(talk);
        } catch (const std::exception& error) {
            failure_ = error.what();
        }
    });
}

FakeService::~FakeService() {
    if (thread_.joinable()) {
        thread_.join();
    }
    CHECK(failure_ == "");
    std::filesystem::remove_all(folder_);
}

void FakeService::join() {
    thread_.join();
    CHECK(failure_ == "");
}

ClientHandle connect_to(const FakeService& service, int timeout_ms) {
    m4_connect_options options = M4_INIT(m4_connect_options);
    options.socket_path = service.path().c_str();
    options.client_name = "test";
    options.timeout_ms = timeout_ms;
    m4_client* client = nullptr;
    REQUIRE(m4_client_connect(&options, &client) == 0);
    return ClientHandle(client);
}

SessionHandle make_session(const ClientHandle& client) {
    m4_session* session = nullptr;
    REQUIRE(m4_session_create(client.get(), nullptr, &session) == 0);
    return SessionHandle(session);
}

StreamHandle start(const SessionHandle& session) {
    m4_stream* stream = nullptr;
    REQUIRE(m4_generate(session.get(), nullptr, &stream) == 0);
    return StreamHandle(stream);
}

std::string error_text(const m4_client* client) {
    m4_error_info info = M4_INIT(m4_error_info);
    REQUIRE(m4_client_error(client, &info) == 0);
    return info.message;
}

Drained drain(const StreamHandle& stream, int timeout_ms) {
    Drained all;
    m4_event event = M4_INIT(m4_event);
    while ((all.status = m4_stream_next(stream.get(), timeout_ms, &event)) == 1) {
        ++all.events;
        all.text.append(event.text, event.text_bytes);
        all.ids.insert(all.ids.end(), event.ids, event.ids + event.id_count);
        all.finish = event.finish;
    }
    return all;
}

}  // namespace m4::test
