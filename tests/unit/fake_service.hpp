// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "m4client.h"
#include "protocol/codec.hpp"

namespace m4::test {

/// The service's side of one connection, as a script drives it: every wait is
/// for a message and ends with an exception after ten seconds.
class Conversation {
   public:
    explicit Conversation(UniqueFd socket) : socket_(std::move(socket)) {}

    /// The next message; valid until the next one.
    const wire::Frame& receive();
    /// The next message, which must be of this type; `id` becomes its id.
    template <typename T>
    const T& expect() {
        const wire::Frame& frame = receive();
        if (frame.body_type() != wire::BodyTraits<T>::enum_value) {
            throw std::runtime_error(std::string("unexpected ") +
                                     wire::EnumNameBody(frame.body_type()));
        }
        id = frame.id();
        return *static_cast<const T*>(frame.body());
    }
    UniqueFd& received_fd() { return inbox_.fd(); }

    /// make(encoder) returns the body's offset.
    template <typename Make>
    void send(std::uint64_t to, Make&& make) {
        protocol::Encoder encoder;
        const auto body = make(encoder);
        send_packet(encoder.finish(to, body));
    }
    void send_packet(const protocol::Packet& packet);
    /// One message of the samples.
    void send_sample(std::uint64_t to, wire::Body type);
    void send_raw(const std::string& bytes);

    void send_error(std::uint64_t to, int code, const char* message, std::uint32_t retry_ms = 0);
    void send_ok(std::uint64_t to);
    void send_session(std::uint64_t to, std::uint64_t session);
    void send_chunk(std::uint64_t to, const std::string& text, std::vector<std::uint32_t> ids = {});
    void send_done(std::uint64_t to, wire::Finish finish, const std::string& text = {});

    /// Hello and its usual answer.
    void greet();
    /// Answers a session create and an append, as most scripts begin.
    void serve_session(std::uint64_t session);
    /// Waits until the client hangs up.
    void await_hangup();
    void hang_up() { socket_.reset(); }

    /// Of the last expect().
    std::uint64_t id = 0;

   private:
    void wait(short events);

    UniqueFd socket_;
    protocol::Inbox inbox_;
};

/// A listening socket whose one connection a script answers in a thread.
class FakeService {
   public:
    using Script = std::function<void(Conversation&)>;

    /// The script begins after hello unless `greets` is false.
    explicit FakeService(Script script, bool greets = true);
    ~FakeService();
    FakeService(const FakeService&) = delete;
    FakeService& operator=(const FakeService&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    /// Waits for the script's end; its failure fails the test.
    void join();

   private:
    std::string folder_;
    std::string path_;
    UniqueFd listener_;
    std::string failure_;
    std::thread thread_;
};

struct ClientCloser {
    void operator()(m4_client* client) const { m4_client_close(client); }
};
using ClientHandle = std::unique_ptr<m4_client, ClientCloser>;
struct SessionCloser {
    void operator()(m4_session* session) const { m4_session_close(session); }
};
using SessionHandle = std::unique_ptr<m4_session, SessionCloser>;
struct StreamCloser {
    void operator()(m4_stream* stream) const { m4_stream_close(stream); }
};
using StreamHandle = std::unique_ptr<m4_stream, StreamCloser>;

/// Connects or fails the test.
[[nodiscard]] ClientHandle connect_to(const FakeService& service, int timeout_ms = 10000);
/// Creates a session or fails the test.
[[nodiscard]] SessionHandle make_session(const ClientHandle& client);
/// Starts a stream or fails the test.
[[nodiscard]] StreamHandle start(const SessionHandle& session);
/// The client's last error in words.
[[nodiscard]] std::string error_text(const m4_client* client);

struct Drained {
    std::string text;
    std::vector<std::uint32_t> ids;
    int finish = 0;
    int status = 1;  // what m4_stream_next() ended with
    int events = 0;
};
/// Takes events until the stream has none left now.
[[nodiscard]] Drained drain(const StreamHandle& stream, int timeout_ms = -1);

}  // namespace m4::test
