// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fake_backend.hpp"
#include "ipc/limits.hpp"
#include "ipc/server.hpp"
#include "protocol/codec.hpp"
#include "sched/limits.hpp"
#include "sched/scheduler.hpp"
#include "temp_folder.hpp"

namespace m4::test {

struct ServiceOptions {
    FakeOptions backend;
    ipc::Limits ipc;
    sched::Limits sched;
};

/// The whole service but main() and the GPU, in a thread of its own, behind a
/// real socket.
class Service {
   public:
    explicit Service(ServiceOptions options = {});
    /// Stops it where the test has not.
    ~Service();
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    [[nodiscard]] std::filesystem::path socket() const { return folder_.path() / "m4d.sock"; }
    /// As SIGTERM does.
    void drain();
    /// As when another process has taken over; the socket's file stays.
    void hand_over();
    /// The loop's exit code; waits for the end.
    int exit_code();
    void lose_device() { backend_->lose(); }
    /// As a step finds it.
    void lose_image() { backend_->revoke(); }
    /// As the watch of sysfs finds it, nothing running.
    void revoke_image(std::string why);

   private:
    /// Done in the loop's thread.
    using Order = std::function<void(ipc::Server&, sched::Scheduler&)>;
    void order(Order what);
    std::vector<Order> take_orders();
    void run(const ServiceOptions& options, std::promise<void>& ready);

    TempFolder folder_;
    FakeBackend* backend_ = nullptr;  ///< the engine thread's
    std::mutex mutex_;
    std::vector<Order> orders_;
    int orders_fd_;  ///< an eventfd: orders wait
    std::promise<int> exit_code_promise_;
    std::shared_future<int> exit_code_;
    std::thread thread_;
};

/// A received frame with the bytes it points into.
class Reply {
   public:
    Reply(std::span<const std::byte> bytes, UniqueFd fd);
    [[nodiscard]] const wire::Frame& frame() const { return *frame_; }
    [[nodiscard]] UniqueFd& fd() { return fd_; }

   private:
    std::vector<std::uint64_t> storage_;  ///< aligned
    const wire::Frame* frame_;
    UniqueFd fd_;
};

/// A client of raw messages, so that a test can send what no library would.
/// Every wait ends after kPatience with a failed test.
class RawClient {
   public:
    static constexpr int kPatienceMs = 30'000;

    /// Connects; says hello where `name` is given.
    explicit RawClient(const Service& service, std::string_view name = "test");
    static RawClient stranger(const Service& service) { return RawClient(service, {}); }

    [[nodiscard]] int fd() const { return fd_.get(); }
    void hang_up() { fd_.reset(); }

    void send(const protocol::Packet& packet);
    void send_raw(std::span<const std::byte> bytes, std::span<const int> fds = {});
    /// None at the end of the connection.
    [[nodiscard]] std::optional<Reply> receive();
    /// The next frame answers `id` with a body of type T.
    template <typename T>
    Reply expect(std::uint64_t id) {
        auto reply = receive();
        REQUIRE(reply.has_value());
        INFO("got a ", wire::EnumNameBody(reply->frame().body_type()));
        REQUIRE(reply->frame().id() == id);
        REQUIRE(reply->frame().body_as<T>() != nullptr);
        return std::move(*reply);
    }
    void expect_error(std::uint64_t id, int code);
    /// An error about the connection, then its end.
    void expect_refusal(int code);
    void expect_end();

    template <typename Make>
    std::uint64_t ask(Make&& make) {
        const std::uint64_t id = ++last_id_;
        protocol::Encoder encoder;
        const auto body = make(encoder);
        send(encoder.finish(id, body));
        return id;
    }
    std::uint64_t ask_status();
    std::uint64_t ask_append(std::uint64_t session, std::string_view text);
    std::uint64_t ask_generate(std::uint64_t session, std::uint32_t max_tokens);
    std::uint64_t ask_cancel(std::uint64_t target);

    std::uint64_t create_session(std::uint32_t capacity = 0);
    /// A session that holds `prompt`.
    std::uint64_t prepare(std::string_view prompt);
    /// All text of a generation, to its end.
    struct Generated {
        std::string text;
        std::vector<std::uint32_t> ids;
        wire::Finish finish = wire::Finish::none;
        std::uint32_t cached_tokens = 0;
    };
    Generated collect(std::uint64_t id);
    /// Sessions the service has now.
    std::uint32_t session_count();

   private:
    UniqueFd fd_;
    protocol::Inbox inbox_;
    std::uint64_t last_id_ = 0;
};

/// Asks again until it is so; fails the test when it never is.
void eventually(const std::function<bool()>& so);

}  // namespace m4::test
