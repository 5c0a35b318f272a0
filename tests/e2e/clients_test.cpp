// SPDX-License-Identifier: MIT
// Several clients at once: what one does wrong never reaches another.
#include <doctest/doctest.h>

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;

namespace {

constexpr std::uint32_t kTokens = 60;

std::string greedy_text(const std::string& socket, const std::string& prompt) {
    const Client client = connect(socket);
    const Session session = open_session(client.get());
    if (m4_session_append_text(session.get(), prompt.c_str(), SIZE_MAX, M4_ADD_SPECIAL) != 0) {
        throw std::runtime_error(last_error(client.get()));
    }
    m4_generate_options options = M4_INIT(struct m4_generate_options);
    options.max_tokens = kTokens;
    options.ignore_eos = 1;
    return generate(session.get(), options).text;
}

// A raw connection that speaks no protocol.
class RawSocket {
   public:
    explicit RawSocket(const std::string& path) : fd_(socket(AF_UNIX, SOCK_SEQPACKET, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    }
    ~RawSocket() { close(fd_); }
    RawSocket(const RawSocket&) = delete;
    RawSocket& operator=(const RawSocket&) = delete;

    bool send_bytes(const std::string& bytes) const {
        return send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) >= 0;
    }
    // Reads until the service closes the connection.
    [[nodiscard]] bool closed_by_peer() const {
        std::array<char, 65536> buffer{};
        timeval limit{30, 0};
        setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ssize_t got = 0;
        while ((got = recv(fd_, buffer.data(), buffer.size(), 0)) > 0) {
        }
        return got == 0 || (got < 0 && errno == ECONNRESET);
    }

   private:
    int fd_;
};

}  // namespace

TEST_CASE("clients: eight at once, one sends garbage, one stalls, one is killed") {
    NEEDS_NANO();
    const Service service(nano_image());
    const std::vector<std::string> prompts = {"Once upon a time", "The little dog", "A red ball",
                                              "In the garden", "The rain fell"};
    std::vector<std::string> alone;
    for (const auto& prompt : prompts) {
        alone.push_back(greedy_text(service.socket(), prompt));
    }

    // The stalled one asks for much and reads nothing.
    const Client stalled = connect(service.socket());
    const Session stalled_session = open_session(stalled.get());
    REQUIRE(m4_session_append_text(stalled_session.get(), "Once", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    m4_generate_options endless = M4_INIT(struct m4_generate_options);
    endless.ignore_eos = 1;
    m4_stream* stalled_stream = nullptr;
    REQUIRE(m4_generate(stalled_session.get(), &endless, &stalled_stream) == 0);

    // The killed one dies in the middle of a stream.
    Process killed({binary("m4ctl"), "--socket", service.socket(), "run", "--greedy",
                    "--ignore-eos", "--max-tokens", "400", "Once upon a time"},
                   service.scratch().path());

    std::atomic<bool> done{false};
    std::thread garbage([&] {
        std::mt19937 random(1);
        while (!done) {
            const RawSocket raw(service.socket());
            std::string bytes(1 + random() % 3000, '\0');
            for (auto& byte : bytes) {
                byte = static_cast<char>(random());
            }
            raw.send_bytes(bytes);
            if (!raw.closed_by_peer()) {
                break;
            }
        }
    });
    std::vector<std::string> together(prompts.size());
    std::vector<std::thread> good;
    for (std::size_t i = 0; i < prompts.size(); ++i) {
        good.emplace_back([&, i] {
            try {
                together[i] = greedy_text(service.socket(), prompts[i]);
            } catch (const std::exception& error) {
                together[i] = error.what();
            }
        });
    }
    killed.signal(SIGKILL);
    for (auto& thread : good) {
        thread.join();
    }
    done = true;
    garbage.join();
    for (std::size_t i = 0; i < prompts.size(); ++i) {
        CAPTURE(prompts[i]);
        CHECK(together[i] == alone[i]);
    }
    m4_stream_close(stalled_stream);
    CHECK(service.ctl({"status"}).status == 0);
}

TEST_CASE("clients: what breaks the protocol closes that connection only") {
    NEEDS_NANO();
    const Service service(nano_image());
    const Client bystander = connect(service.socket());
    for (const std::string& bytes :
         {std::string("x"), std::string(40, '\0'), std::string(60000, '\xff'),
          std::string("\x10\0\0\0M4W1garbage after a plausible start", 40)}) {
        const RawSocket raw(service.socket());
        raw.send_bytes(bytes);
        CHECK(raw.closed_by_peer());
    }
    struct m4_status status = M4_INIT(struct m4_status);
    CHECK(m4_status(bystander.get(), &status) == 0);
    CHECK(status.clients == 1);
}

TEST_CASE("clients: a closed client's sessions are gone") {
    NEEDS_NANO();
    const Service service(nano_image());
    const Client watcher = connect(service.socket());
    const auto sessions = [&] {
        m4_session_entry* entries = nullptr;
        std::size_t count = 0;
        REQUIRE(m4_session_list(watcher.get(), &entries, &count) == 0);
        m4_free(entries);
        return count;
    };
    {
        const Client other = connect(service.socket());
        const Session first = open_session(other.get());
        const Session second = open_session(other.get());
        CHECK(sessions() == 2);
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (sessions() != 0 && std::chrono::steady_clock::now() < end) {
    }
    CHECK(sessions() == 0);
}

TEST_CASE("clients: sessions past the limit are refused, and the limit heals") {
    NEEDS_NANO();
    const Service service(nano_image());
    const Client client = connect(service.socket());
    std::vector<Session> held;
    m4_session_options options = M4_INIT(struct m4_session_options);
    options.capacity = 64;
    int status = 0;
    while (held.size() < 10000) {
        m4_session* session = nullptr;
        status = m4_session_create(client.get(), &options, &session);
        if (status != 0) {
            break;
        }
        held.emplace_back(session);
    }
    CHECK((status == M4_E_QUOTA || status == M4_E_BUSY));
    CHECK(held.size() >= 8);
    held.pop_back();
    const Session again = open_session(client.get(), 64);
    CHECK(again != nullptr);
}
