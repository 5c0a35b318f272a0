// SPDX-License-Identifier: MIT
#include "service_bench.hpp"

#include <m4client.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace m4::test {

namespace {

void add_port(firmware::Program& program, std::vector<firmware::Port>& ports, firmware::Role role,
              std::vector<firmware::Dim> dims) {
    ports.push_back({role, static_cast<std::uint32_t>(program.values.size())});
    program.values.push_back({M4_DTYPE_F32, std::move(dims)});
}

firmware::Dim items(std::uint32_t rows) {
    return {rows, firmware::Symbol::items};
}

/// What the fake backend computes: a backbone; "eye", 2 x 2 gray pixels; "mouth", a
/// projector of two rows; and "reader", texts without a tokeniser.
firmware::Package fake_package() {
    using firmware::Part;
    using firmware::PartKind;
    using firmware::Role;
    Part eye;
    eye.name = "eye";
    eye.kind = PartKind::encoder;
    eye.space = "shared";
    eye.labels = {"one", "two", "three", "four"};
    eye.recipe = firmware::ImageRecipe{1, 0, 2, 2, {0}, {1}};
    firmware::Program encode;
    add_port(encode, encode.inputs, Role::features, {items(2), {2}});
    add_port(encode, encode.outputs, Role::embedding, {items(1), {FakeBackend::kRowColumns}});
    add_port(encode, encode.outputs, Role::scores, {items(1), {FakeBackend::kItemFloats}});
    eye.programs = {encode};
    Part reader;
    reader.name = "reader";
    reader.kind = PartKind::encoder;
    reader.space = "shared";
    reader.context_length = 8;
    reader.vocabulary = 100;
    reader.recipe = firmware::TextRecipe{};
    firmware::Program read;
    add_port(read, read.outputs, Role::embedding, {items(1), {FakeBackend::kRowColumns}});
    reader.programs = {read};
    Part mouth;
    mouth.name = "mouth";
    mouth.kind = PartKind::projector;
    mouth.space = "shared";
    firmware::Program project;
    add_port(project, project.inputs, Role::features, {items(1), {FakeBackend::kRowColumns}});
    add_port(project, project.outputs, Role::hidden, {items(2), {FakeBackend::kRowColumns}});
    mouth.programs = {project};
    Part backbone;
    backbone.name = "backbone";
    backbone.kind = PartKind::backbone;
    return {{backbone, eye, reader, mouth}};
}

}  // namespace

// ---- service

Service::Service(ServiceOptions options)
    : orders_fd_(eventfd(0, EFD_CLOEXEC)), exit_code_(exit_code_promise_.get_future()) {
    std::promise<void> ready;
    auto made = ready.get_future();
    thread_ = std::thread([this, options = std::move(options), ready = std::move(ready)]() mutable {
        run(options, ready);
    });
    try {
        made.get();
    } catch (...) {
        thread_.join();
        throw;
    }
}

Service::~Service() {
    drain();
    thread_.join();
    close(orders_fd_);
}

void Service::order(Order what) {
    {
        const std::lock_guard lock(mutex_);
        orders_.push_back(std::move(what));
    }
    (void)eventfd_write(orders_fd_, 1);
}

std::vector<Service::Order> Service::take_orders() {
    eventfd_t ignored = 0;
    (void)eventfd_read(orders_fd_, &ignored);
    const std::lock_guard lock(mutex_);
    return std::exchange(orders_, {});
}

void Service::drain() {
    order([](ipc::Server& server, sched::Scheduler&) { server.drain(0); });
}

void Service::hand_over() {
    order([](ipc::Server& server, sched::Scheduler&) { server.hand_over(); });
}

void Service::revoke_image(std::string why) {
    order([why = std::move(why)](ipc::Server&, sched::Scheduler& scheduler) {
        scheduler.revoke(why);
    });
}

int Service::exit_code() {
    if (exit_code_.wait_for(std::chrono::milliseconds(RawClient::kPatienceMs)) !=
        std::future_status::ready) {
        FAIL("the loop goes on");
    }
    return exit_code_.get();
}

void Service::run(const ServiceOptions& options, std::promise<void>& ready) {
    sd_event* raw_loop = nullptr;
    ipc::check(sd_event_new(&raw_loop), "sd_event_new");
    const ipc::EventLoop loop(raw_loop);
    const ByteText text;
    sched::CompletionQueue completions;
    const auto factory = [&] {
        auto made = std::make_unique<FakeBackend>(options.backend);
        backend_ = made.get();
        return made;
    };
    sched::Scheduler scheduler(factory, text, options.sched, completions);
    const firmware::Package package = fake_package();
    const sched::Parts image_parts(package, {});
    ipc::Server::Parts parts;
    parts.parts = &image_parts;
    parts.loop = loop.get();
    parts.scheduler = &scheduler;
    parts.completions = &completions;
    parts.text = &text;
    parts.limits = options.ipc;
    parts.info.server_version = "1.2.3";
    parts.info.model_name = "fake";
    parts.info.vocabulary = ByteText::kVocabulary;
    ipc::Server server(std::move(parts), ipc::Listener::bind(socket()));
    std::function<void()> obey = [&] {
        for (const Order& what : take_orders()) {
            what(server, scheduler);
        }
    };
    const auto on_order = [](sd_event_source* source, int, std::uint32_t, void* data) {
        return ipc::guarded(source, *static_cast<std::function<void()>*>(data));
    };
    const auto obeying = ipc::add_io(loop.get(), orders_fd_, EPOLLIN, on_order, &obey);
    ready.set_value();
    exit_code_promise_.set_value(sd_event_loop(loop.get()));
}

// ---- client

Reply::Reply(std::span<const std::byte> bytes, UniqueFd fd)
    : storage_(bytes.size() / sizeof(std::uint64_t) + 1), fd_(std::move(fd)) {
    std::memcpy(storage_.data(), bytes.data(), bytes.size());
    const auto decoded = protocol::decode(std::as_bytes(std::span(storage_)).first(bytes.size()));
    frame_ = decoded.frame;
    REQUIRE(frame_ != nullptr);
}

RawClient::RawClient(const Service& service, std::string_view name)
    : fd_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = service.socket();
    REQUIRE(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.data(), path.size());
    REQUIRE(connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    if (name.empty()) {
        return;
    }
    const auto hello = ask([&](protocol::Encoder& encoder) {
        return wire::CreateHelloDirect(encoder.builder(), protocol::kVersionMajor,
                                       protocol::kVersionMinor, protocol::kFeatures,
                                       std::string(name).c_str());
    });
    (void)expect<wire::HelloReply>(hello);
}

void RawClient::send(const protocol::Packet& packet) {
    for (;;) {
        const auto fault = protocol::send_packet(fd_.get(), packet);
        if (fault != protocol::Fault::kWouldBlock) {
            REQUIRE(fault == protocol::Fault::kNone);
            return;
        }
        pollfd ready{fd_.get(), POLLOUT, 0};
        REQUIRE(poll(&ready, 1, kPatienceMs) == 1);
    }
}

void RawClient::send_raw(std::span<const std::byte> bytes, std::span<const int> fds) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(4 * sizeof(int))> control{};
    iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
        message.msg_control = control.data();
        message.msg_controllen = CMSG_SPACE(fds.size_bytes());
        cmsghdr* header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fds.size_bytes());
        std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    }
    REQUIRE(sendmsg(fd_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
}

std::optional<Reply> RawClient::receive() {
    for (;;) {
        pollfd ready{fd_.get(), POLLIN, 0};
        REQUIRE(poll(&ready, 1, kPatienceMs) == 1);
        const auto fault = protocol::receive_packet(fd_.get(), inbox_);
        if (fault == protocol::Fault::kClosed) {
            return std::nullopt;
        }
        if (fault != protocol::Fault::kWouldBlock) {
            REQUIRE(fault == protocol::Fault::kNone);
            return std::optional<Reply>(std::in_place, inbox_.bytes(), std::move(inbox_.fd()));
        }
    }
}

void RawClient::expect_error(std::uint64_t id, int code) {
    const Reply reply = expect<wire::ErrorReply>(id);
    const auto* error = reply.frame().body_as_ErrorReply();
    INFO(protocol::text_of(error->message()));
    CHECK(error->code() == code);
    CHECK(!protocol::text_of(error->message()).empty());
}

void RawClient::expect_refusal(int code) {
    const auto reply = receive();
    REQUIRE(reply.has_value());
    const auto* error = reply->frame().body_as_ErrorReply();
    REQUIRE(error != nullptr);
    INFO(protocol::text_of(error->message()));
    CHECK(error->code() == code);
    expect_end();
}

void RawClient::expect_end() {
    CHECK(!receive().has_value());
}

std::uint64_t RawClient::ask_status() {
    return ask([](protocol::Encoder& e) { return wire::CreateStatusRequest(e.builder()); });
}

std::uint64_t RawClient::ask_append(std::uint64_t session, std::string_view text) {
    return ask([&](protocol::Encoder& e) {
        const auto bulk = e.put_text(text);
        return wire::CreateSessionAppendRequest(e.builder(), session, bulk);
    });
}

std::uint64_t RawClient::ask_generate(std::uint64_t session, std::uint32_t max_tokens) {
    return ask([&](protocol::Encoder& e) {
        return wire::CreateGenerateRequest(e.builder(), session, max_tokens);
    });
}

std::uint64_t RawClient::ask_cancel(std::uint64_t target) {
    return ask(
        [&](protocol::Encoder& e) { return wire::CreateCancelRequest(e.builder(), target); });
}

std::uint64_t RawClient::create_session(std::uint32_t capacity) {
    const auto id = ask([&](protocol::Encoder& e) {
        return wire::CreateSessionCreateRequest(e.builder(), capacity);
    });
    return expect<wire::SessionReply>(id).frame().body_as_SessionReply()->session();
}

std::uint64_t RawClient::prepare(std::string_view prompt) {
    const std::uint64_t session = create_session();
    (void)expect<wire::SessionReply>(ask_append(session, prompt));
    return session;
}

RawClient::Generated RawClient::collect(std::uint64_t id) {
    Generated all;
    for (;;) {
        const auto reply = receive();
        REQUIRE(reply.has_value());
        const wire::Frame& frame = reply->frame();
        REQUIRE(frame.id() == id);
        const auto add = [&](const auto& part) {
            all.text += protocol::text_of(part.text());
            const auto ids = protocol::span_of(part.ids());
            all.ids.insert(all.ids.end(), ids.begin(), ids.end());
        };
        if (const auto* chunk = frame.body_as_GenerateChunk()) {
            add(*chunk);
            continue;
        }
        const auto* done = frame.body_as_GenerateDone();
        REQUIRE(done != nullptr);
        add(*done);
        all.finish = done->finish();
        all.cached_tokens = done->usage()->cached_tokens();
        return all;
    }
}

std::uint32_t RawClient::session_count() {
    return expect<wire::StatusReply>(ask_status()).frame().body_as_StatusReply()->sessions();
}

void eventually(const std::function<bool()>& so) {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(RawClient::kPatienceMs);
    while (!so()) {
        REQUIRE(std::chrono::steady_clock::now() < end);
        std::this_thread::yield();
    }
}

}  // namespace m4::test
