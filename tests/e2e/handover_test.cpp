// SPDX-License-Identifier: MIT
// A service that takes a newer image while it is used: nobody loses anything.
#include <doctest/doctest.h>

#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "manager.hpp"
#include "service.hpp"
#include "skip.hpp"
#include "tiny_model.hpp"

using namespace m4::test;
namespace fs = std::filesystem;

namespace {

constexpr std::uint32_t kTokens = 300;

m4_generate_options greedy(std::uint32_t tokens = kTokens) {
    m4_generate_options options = M4_INIT(struct m4_generate_options);
    options.max_tokens = tokens;
    options.ignore_eos = 1;
    return options;
}

Session prompted(m4_client* client, const char* prompt = "Once upon a time") {
    Session session = open_session(client);
    REQUIRE(m4_session_append_text(session.get(), prompt, SIZE_MAX, M4_ADD_SPECIAL) == 0);
    return session;
}

struct m4_model_info model_of(m4_client* client) {
    struct m4_model_info info = M4_INIT(struct m4_model_info);
    REQUIRE(m4_model_info(client, &info) == 0);
    return info;
}

std::string digest_of(const std::string& socket) {
    const Client client = connect(socket);
    return model_of(client.get()).digest;
}

std::size_t descriptors_with_one_client(pid_t pid, const std::string& socket) {
    const Client client = connect(socket);
    wait_until("others have left", [&] {
        struct m4_status status = M4_INIT(struct m4_status);
        REQUIRE(m4_status(client.get(), &status) == 0);
        return status.clients == 1;
    });
    const auto entries = fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd");
    return static_cast<std::size_t>(std::distance(fs::begin(entries), fs::end(entries)));
}

/// A service on the folder that a link names, under a service manager.
class Updated {
   public:
    explicit Updated(std::vector<std::string> extra = {}) {
        write_tiny_model(make_tiny_model({}, 7), images_ / "b");
        fs::copy(nano_image(), images_ / "a", fs::copy_options::recursive);
        point_to("a");
        service_ = std::make_unique<Service>(
            images_ / "current", extra,
            std::vector<std::string>{manager_.notify_socket(), "WATCHDOG_USEC=1000000"});
        manager_.set_main(service_->process().pid());
        manager_.await("READY");
    }

    void point_to(const std::string& image) {
        fs::create_symlink(image, images_ / "next");
        fs::rename(images_ / "next", images_ / "current");
    }
    void ask() { kill(manager_.main(), SIGHUP); }
    /// The process that serves from now on.
    pid_t update_to(const std::string& image) {
        point_to(image);
        ask();
        manager_.await("MAINPID");
        return manager_.main();
    }

    [[nodiscard]] Service& service() { return *service_; }
    [[nodiscard]] Manager& manager() { return manager_; }
    [[nodiscard]] const std::string& socket() const { return service_->socket(); }
    [[nodiscard]] fs::path image(const std::string& name) const { return images_ / name; }

   private:
    Scratch images_;
    Scratch notify_;
    Manager manager_{notify_};
    std::unique_ptr<Service> service_;
};

}  // namespace

TEST_CASE("handover: who is here stays on its image, who comes gets the new one") {
    NEEDS_NANO();
    Updated updated;
    const std::string a = digest_of(updated.socket());
    Client old_client = connect(updated.socket());
    const m4_generate_options options = greedy();
    const std::string right = generate(prompted(old_client.get()).get(), options).text;

    Session session = prompted(old_client.get());
    m4_stream* stream = nullptr;
    REQUIRE(m4_generate(session.get(), &options, &stream) == 0);
    m4_event event = M4_INIT(struct m4_event);
    REQUIRE(m4_stream_next(stream, -1, &event) == 1);
    const std::string begun(event.text, event.text_bytes);

    const pid_t before = updated.service().process().pid();
    const pid_t after = updated.update_to("b");
    CHECK(after != before);
    CHECK(begun + drain(stream).text == right);
    m4_stream_close(stream);
    // And not only what ran already.
    CHECK(generate(prompted(old_client.get()).get(), options).text == right);
    CHECK(std::string(model_of(old_client.get()).state) == "draining");
    CHECK(std::string(model_of(old_client.get()).digest) == a);

    const Client new_client = connect(updated.socket());
    const struct m4_model_info b = model_of(new_client.get());
    CHECK(std::string(b.digest) != a);
    CHECK(std::string(b.state) == "ready");
    CHECK(generate(prompted(new_client.get(), "Hi").get(), greedy(5)).ids.size() == 5);
    updated.manager().await("WATCHDOG");  // the new one feeds it

    CHECK(updated.service().process().running());
    session.reset();
    old_client.reset();
    CHECK(updated.service().process().wait().status == 0);
    CHECK(digest_of(updated.socket()) == b.digest);
    CHECK(updated.manager().stop_main() == 0);
    CHECK_FALSE(fs::exists(updated.socket()));
}

TEST_CASE("handover: an image that is no good changes nothing, a good one after it does") {
    NEEDS_NANO();
    Updated updated;
    const std::string a = digest_of(updated.socket());
    const Client client = connect(updated.socket());
    fs::copy(updated.image("b"), updated.image("bad"), fs::copy_options::recursive);
    fs::resize_file(updated.image("bad") / "manifest.m4m", 1000);
    updated.point_to("bad");
    updated.ask();
    wait_until("the bad image is refused", [&] {
        return updated.service().process().err().find("did not come up") != std::string::npos;
    });
    const std::string said = updated.service().process().err();
    CAPTURE(said);
    CHECK(said.find("manifest.m4m") != std::string::npos);
    CHECK(digest_of(updated.socket()) == a);
    CHECK(std::string(model_of(client.get()).state) == "ready");
    CHECK(generate(prompted(client.get()).get(), greedy(5)).ids.size() == 5);
    // Its process is gone: ours to reap, as orphans are.
    wait_until("the failed process ends", [] { return waitpid(-1, nullptr, WNOHANG) > 0; });

    updated.update_to("b");
    CHECK(digest_of(updated.socket()) != a);
    CHECK(updated.manager().stop_main() == 0);
}

TEST_CASE("handover: five in a row leave no process and no descriptor") {
    NEEDS_NANO();
    Updated updated;
    pid_t before = updated.manager().main();
    const std::size_t at_first = descriptors_with_one_client(before, updated.socket());
    for (int round = 0; round < 5; ++round) {
        const pid_t now = updated.update_to(round % 2 == 0 ? "b" : "a");
        REQUIRE(now != before);
        if (round == 0) {
            CHECK(updated.service().process().wait().status == 0);
        } else {
            int status = -1;
            REQUIRE(waitpid(before, &status, 0) == before);
            CHECK(status == 0);
        }
        updated.manager().await("WATCHDOG");  // nothing of the old one is left
        CHECK(descriptors_with_one_client(now, updated.socket()) == at_first);
        before = now;
    }
    CHECK(fs::exists(updated.socket()));
    CHECK(updated.manager().stop_main() == 0);
    CHECK_FALSE(fs::exists(updated.socket()));
    CHECK(waitpid(-1, nullptr, WNOHANG) == -1);  // no child is left
}

TEST_CASE("handover: who stays too long is told to connect again") {
    NEEDS_NANO();
    Updated updated({"--drain-seconds", "0"});
    const Client idle = connect(updated.socket());
    const Client busy = connect(updated.socket());
    const Session session = prompted(busy.get());
    const m4_generate_options options = greedy(0);
    m4_stream* stream = nullptr;
    REQUIRE(m4_generate(session.get(), &options, &stream) == 0);
    updated.update_to("b");
    m4_event event = M4_INIT(struct m4_event);
    int status = 0;
    while ((status = m4_stream_next(stream, -1, &event)) == 1) {
    }
    if (status != 0) {  // else it had come to its end before
        CHECK(status == M4_E_UNAVAILABLE);
        CHECK(last_error(busy.get()).find("connect again") != std::string::npos);
    }
    m4_stream_close(stream);
    struct m4_status figures = M4_INIT(struct m4_status);
    CHECK(m4_status(idle.get(), &figures) == M4_E_UNAVAILABLE);
    CHECK(last_error(idle.get()).find("the model was updated: connect again") != std::string::npos);
    CHECK(updated.service().process().wait().status == 0);
    CHECK(updated.manager().stop_main() == 0);
}

TEST_CASE("handover: from an image that was lost to one that is whole") {
    NEEDS_NANO();
    Updated updated;
    const Client client = connect(updated.socket());
    const Session session = prompted(client.get());
    fs::resize_file(updated.image("a") / "seg-000.m4w", 0);
    const m4_generate_options options = greedy();
    m4_stream* stream = nullptr;
    REQUIRE(m4_generate(session.get(), &options, &stream) == 0);
    m4_event event = M4_INIT(struct m4_event);
    CHECK(m4_stream_next(stream, -1, &event) == M4_E_VERIFY);
    m4_stream_close(stream);
    CHECK(std::string(model_of(client.get()).state) == "revoked");

    updated.update_to("b");
    const Client newcomer = connect(updated.socket());
    CHECK(std::string(model_of(newcomer.get()).state) == "ready");
    CHECK(generate(prompted(newcomer.get(), "Hi").get(), greedy(5)).ids.size() == 5);
    // The old process does not wait for its clients: it has nothing for them.
    CHECK(updated.service().process().wait().status == 0);
    struct m4_status figures = M4_INIT(struct m4_status);
    CHECK(m4_status(client.get(), &figures) == M4_E_UNAVAILABLE);
    CHECK(updated.manager().stop_main() == 0);
}

TEST_CASE("handover: a socket that the service manager holds stays its own") {
    NEEDS_NANO();
    const std::string activator = "/usr/bin/systemd-socket-activate";
    if (!fs::exists(activator)) {
        M4_SKIP("no systemd-socket-activate");
    }
    const Scratch scratch;
    Manager manager(scratch);
    const std::string socket = (scratch / "m4d.sock").string();
    // As systemd does it: the watchdog is for one process, named in advance.
    Process held({"/bin/sh", "-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh", activator, "--seqpacket",
                  "--listen=" + socket, "--setenv=NOTIFY_SOCKET", "--setenv=WATCHDOG_USEC=1000000",
                  "--setenv=WATCHDOG_PID", binary("m4d"), "--image", nano_image().string(),
                  "--cache-dir", (scratch / "cache").string()},
                 scratch.path(), {manager.notify_socket()});
    manager.set_main(held.pid());
    wait_until("the socket is there", [&] { return fs::exists(socket) || !held.running(); });
    const std::string a = digest_of(socket);
    manager.await("READY");
    held.signal(SIGHUP);
    manager.await("MAINPID");
    CHECK(held.wait().status == 0);
    manager.await("WATCHDOG");
    CHECK(digest_of(socket) == a);
    CHECK(manager.stop_main() == 0);
    CHECK(fs::exists(socket));
}
