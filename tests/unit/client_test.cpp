// SPDX-License-Identifier: MIT
// libm4client against a scripted peer: calls and their failures.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <cmath>
#include <future>
#include <limits>

#include "fake_service.hpp"
#include "fd_leak.hpp"

using namespace m4;
using namespace m4::test;
using protocol::Encoder;

namespace {

using Status = struct m4_status;
using ModelInfo = struct m4_model_info;

int ask_status(const ClientHandle& client) {
    Status status = M4_INIT(struct m4_status);
    return m4_status(client.get(), &status);
}

/// Answers one status request, however it comes.
void serve_status(Conversation& talk) {
    (void)talk.expect<wire::StatusRequest>();
    talk.send_sample(talk.id, wire::Body::StatusReply);
}

}  // namespace

TEST_CASE("replies fill the structs, clipped to whole characters") {
    FakeService service([](Conversation& talk) {
        serve_status(talk);
        (void)talk.expect<wire::ModelInfoRequest>();
        talk.send(talk.id, [](Encoder& e) {
            const std::string name(31, 'n');
            const std::vector<std::uint8_t> digest(32, 0xa5);
            return wire::CreateModelInfoReplyDirect(e.builder(), (name + "\xc3\xa9").c_str(), "1",
                                                    "llama", &digest, &digest, nullptr, "folder", 3,
                                                    1000, 2000, 2048, 4096, 1, -1);
        });
        (void)talk.expect<wire::SessionListRequest>();
        talk.send_sample(talk.id, wire::Body::SessionListReply);
    });
    const ClientHandle client = connect_to(service);
    Status status = M4_INIT(struct m4_status);
    REQUIRE(m4_status(client.get(), &status) == 0);
    CHECK(std::string(status.kv_cache_type) == "f16");
    CHECK(status.weight_bytes == 1);
    CHECK(status.requests_queued == 12);

    ModelInfo info = M4_INIT(struct m4_model_info);
    REQUIRE(m4_model_info(client.get(), &info) == 0);
    CHECK(std::string(info.name) == std::string(31, 'n'));
    CHECK(std::string(info.digest).substr(0, 4) == "a5a5");
    CHECK(std::strlen(info.digest) == 64);
    CHECK(std::string(info.source_digest).empty());
    CHECK(info.eos_id == -1);

    m4_session_entry* entries = nullptr;
    std::size_t count = 0;
    REQUIRE(m4_session_list(client.get(), &entries, &count) == 0);
    REQUIRE(count == 2);
    CHECK(entries[0].session_id == 9);
    CHECK(entries[0].active == 1);
    CHECK(std::string(entries[1].client_name) == "b");
    m4_free(entries);
}

TEST_CASE("output structs of another version are filled as far as they go") {
    FakeService service([](Conversation& talk) {
        serve_status(talk);
        serve_status(talk);
    });
    const ClientHandle client = connect_to(service);

    Status smaller = {};
    std::memset(&smaller, 0x55, sizeof smaller);
    smaller.size = offsetof(Status, kv_cache_type);
    REQUIRE(m4_status(client.get(), &smaller) == 0);
    CHECK(smaller.size == offsetof(Status, kv_cache_type));
    CHECK(std::string(smaller.weights_import) == "host_pointer");
    CHECK(smaller.weight_bytes == 0x5555555555555555ULL);

    struct {
        Status known;
        unsigned char later[64];
    } larger = {};
    std::memset(&larger, 0x55, sizeof larger);
    larger.known.size = sizeof larger;
    REQUIRE(m4_status(client.get(), &larger.known) == 0);
    CHECK(larger.known.requests_queued == 12);
    CHECK(larger.later[0] == 0);
    CHECK(larger.later[63] == 0);

    Status unset = {};
    CHECK(m4_status(client.get(), &unset) == M4_E_INVALID);
    unset.size = sizeof unset - 1;
    CHECK(m4_status(client.get(), &unset) == M4_E_INVALID);
    unset.size = 1U << 20U;
    CHECK(m4_status(client.get(), &unset) == M4_E_INVALID);
    CHECK(error_text(client.get()).find("M4_INIT") != std::string::npos);
}

TEST_CASE("option structs of another version") {
    struct Later {
        m4_session_options known;
        std::uint64_t added;
    };
    FakeService service([](Conversation& talk) {
        for (const std::uint32_t capacity : {0U, 77U}) {
            if (talk.expect<wire::SessionCreateRequest>().capacity() != capacity) {
                throw std::runtime_error("wrong capacity");
            }
            talk.send_session(talk.id, 5);
        }
        (void)talk.expect<wire::SessionCloseRequest>();
    });
    const ClientHandle client = connect_to(service);
    m4_session* session = nullptr;

    Later later = {};
    later.known.size = sizeof later;
    later.known.capacity = 77;
    later.added = 1;
    CHECK(m4_session_create(client.get(), &later.known, &session) == M4_E_INVALID);
    CHECK(session == nullptr);
    CHECK(error_text(client.get()).find("does not know") != std::string::npos);

    m4_session_options older = M4_INIT(m4_session_options);
    older.size = sizeof(std::size_t);  // before `capacity` was added
    older.capacity = 77;
    REQUIRE(m4_session_create(client.get(), &older, &session) == 0);
    const SessionHandle first(session);
    later.added = 0;
    REQUIRE(m4_session_create(client.get(), &later.known, &session) == 0);
    const SessionHandle second(session);
}

TEST_CASE("wrong arguments are refused before anything is sent") {
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        // The refused calls sent nothing: the next message is the close.
        (void)talk.expect<wire::SessionCloseRequest>();
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    m4_client* c = client.get();
    m4_session* s = session.get();
    std::uint32_t* ids = nullptr;
    std::uint32_t one = 1;
    std::size_t count = 0;
    char* text = nullptr;
    m4_stream* stream = nullptr;
    m4_score* score = nullptr;

    CHECK(m4_client_connect(nullptr, nullptr) == M4_E_INVALID);
    CHECK(m4_client_error(c, nullptr) == M4_E_INVALID);
    CHECK(m4_client_fd(nullptr) == M4_E_INVALID);
    CHECK(m4_client_events(nullptr) == 0);
    CHECK(m4_client_dispatch(nullptr) == M4_E_INVALID);
    CHECK(m4_model_info(nullptr, nullptr) == M4_E_INVALID);
    CHECK(m4_model_info(c, nullptr) == M4_E_INVALID);
    CHECK(m4_status(c, nullptr) == M4_E_INVALID);
    CHECK(m4_session_list(c, nullptr, &count) == M4_E_INVALID);
    CHECK(m4_tokenize(nullptr, "x", 1, 0, &ids, &count) == M4_E_INVALID);
    CHECK(m4_tokenize(c, nullptr, 1, 0, &ids, &count) == M4_E_INVALID);
    CHECK(m4_tokenize(c, nullptr, SIZE_MAX, 0, &ids, &count) == M4_E_INVALID);
    CHECK(m4_tokenize(c, "x", 1, 2, &ids, &count) == M4_E_INVALID);
    CHECK(m4_tokenize(c, "x", 1, 0, nullptr, &count) == M4_E_INVALID);
    CHECK(m4_tokenize(c, "x", 1, 0, &ids, nullptr) == M4_E_INVALID);
    CHECK(m4_detokenize(c, nullptr, 1, &text, &count) == M4_E_INVALID);
    CHECK(m4_detokenize(c, &one, SIZE_MAX, &text, &count) == M4_E_INVALID);
    CHECK(m4_detokenize(c, &one, 1, nullptr, &count) == M4_E_INVALID);
    CHECK(m4_session_create(c, nullptr, nullptr) == M4_E_INVALID);
    CHECK(m4_session_append_text(nullptr, "x", 1, 0) == M4_E_INVALID);
    CHECK(m4_session_append_text(s, "x", 1, 0x80000000U) == M4_E_INVALID);
    CHECK(m4_session_append_tokens(s, nullptr, 3) == M4_E_INVALID);
    CHECK(m4_session_truncate(nullptr, 0) == M4_E_INVALID);
    CHECK(m4_session_position(nullptr, nullptr, nullptr) == M4_E_INVALID);
    CHECK(m4_generate(s, nullptr, nullptr) == M4_E_INVALID);
    CHECK(m4_generate(nullptr, nullptr, &stream) == M4_E_INVALID);
    CHECK(m4_stream_next(nullptr, 0, nullptr) == M4_E_INVALID);
    CHECK(m4_stream_cancel(nullptr) == M4_E_INVALID);
    CHECK(m4_stream_usage(nullptr, nullptr) == M4_E_INVALID);
    CHECK(m4_score_tokens(c, nullptr, 0, nullptr, &score) == M4_E_INVALID);
    CHECK(m4_score_tokens(c, &one, 1, nullptr, nullptr) == M4_E_INVALID);
    CHECK(m4_tokenize(c, std::string(std::size_t{1} << 27U, 'x').c_str(), SIZE_MAX, 0, &ids,
                      &count) == M4_E_TOO_LARGE);
    m4_client_close(nullptr);
    m4_session_close(nullptr);
    m4_stream_close(nullptr);
    m4_score_free(nullptr);
    m4_free(nullptr);

    const auto refused = [&](auto change) {
        m4_generate_options options = M4_INIT(m4_generate_options);
        change(options);
        return m4_generate(s, &options, &stream) == M4_E_INVALID;
    };
    const std::string long_text(257, 'x');
    const char* stops[17] = {long_text.c_str()};
    CHECK(refused([](auto& o) { o.temperature = -1.0F; }));
    CHECK(refused([](auto& o) { o.temperature = std::numeric_limits<float>::infinity(); }));
    CHECK(refused([](auto& o) { o.top_p = NAN; }));
    CHECK(refused([](auto& o) { o.top_p = 1.5F; }));
    CHECK(refused([](auto& o) { o.ignore_eos = 2; }));
    CHECK(refused([](auto& o) { o.stop_count = 1; }));
    CHECK(refused([&](auto& o) { o.stop = stops, o.stop_count = 17; }));
    CHECK(refused([&](auto& o) { o.stop = stops, o.stop_count = 1; }));
    CHECK(refused([&](auto& o) { o.stop = stops + 1, o.stop_count = 1; }));
    CHECK(stream == nullptr);
}

TEST_CASE("codes have words") {
    CHECK(std::string(m4_version()) == "0.1.0");
    for (int code = 0; code >= M4_E_ADAPTER; --code) {
        CHECK(std::string(m4_strerror(code)) != "unknown error");
    }
    CHECK(std::string(m4_strerror(-1000)) == "unknown error");
    CHECK(std::string(m4_strerror(1)) == "unknown error");
}

TEST_CASE("a session is cloned where the service knows how") {
    FakeService service(
        [](Conversation& talk) {
            (void)talk.expect<wire::Hello>();
            talk.send(talk.id, [](protocol::Encoder& e) {
                return wire::CreateHelloReplyDirect(e.builder(), protocol::kVersionMajor, 2, 0,
                                                    "0.1.0");
            });
            talk.serve_session(5);
            CHECK(talk.expect<wire::SessionCloneRequest>().session() == 5);
            talk.send_session(talk.id, 6);
            CHECK(talk.expect<wire::SessionInfoRequest>().session() == 6);
            talk.send_session(talk.id, 6);
            CHECK(talk.expect<wire::SessionCloseRequest>().session() == 6);
            talk.send_ok(talk.id);
            (void)talk.expect<wire::SessionCloneRequest>();
            talk.send_error(talk.id, M4_E_QUOTA, "enough");
        },
        false);
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    CHECK(m4_session_clone(session.get(), nullptr) == M4_E_INVALID);
    CHECK(m4_session_clone(nullptr, nullptr) == M4_E_INVALID);
    m4_session* made = nullptr;
    REQUIRE(m4_session_clone(session.get(), &made) == 0);
    SessionHandle clone(made);
    std::uint32_t position = 0;
    CHECK(m4_session_position(clone.get(), &position, nullptr) == 0);
    CHECK(position == 3);
    clone.reset();
    made = nullptr;
    CHECK(m4_session_clone(session.get(), &made) == M4_E_QUOTA);
    CHECK(made == nullptr);
    service.join();
}

TEST_CASE("a service that is too old for clones is not asked for one") {
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        serve_status(talk);
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    m4_session* made = nullptr;
    CHECK(m4_session_clone(session.get(), &made) == M4_E_VERSION);
    CHECK(made == nullptr);
    CHECK(error_text(client.get()) ==
          "m4_session_clone needs protocol 1.2, the service speaks 1.0");
    CHECK(ask_status(client) == 0);
}

TEST_CASE("a bench tells how far it is, then its figures") {
    FakeService service(
        [](Conversation& talk) {
            (void)talk.expect<wire::Hello>();
            talk.send(talk.id, [](protocol::Encoder& e) {
                return wire::CreateHelloReplyDirect(e.builder(), protocol::kVersionMajor, 3, 0,
                                                    "0.1.0");
            });
            const auto& asked = talk.expect<wire::BenchRequest>();
            CHECK(asked.context() == 48);
            CHECK(asked.tokens() == 0);
            CHECK(asked.prefill() == 7);
            talk.send_sample(talk.id, wire::Body::BenchProgress);
            talk.send_sample(talk.id, wire::Body::BenchProgress);
            talk.send_sample(talk.id, wire::Body::BenchReply);
            (void)talk.expect<wire::BenchRequest>();
            talk.send_sample(talk.id, wire::Body::BenchProgress);
            talk.send_error(talk.id, M4_E_PERMISSION, "not you");
            (void)talk.expect<wire::BenchRequest>();
            talk.send(talk.id, [](protocol::Encoder& e) {
                return wire::CreateBenchReply(e.builder(), 16, 32);  // no times
            });
        },
        false);
    const ClientHandle client = connect_to(service);
    m4_bench_options options = M4_INIT(m4_bench_options);
    options.context = 48;
    options.prefill = 7;
    std::vector<unsigned> told;
    options.user = &told;
    options.progress = [](unsigned percent, void* user) {
        static_cast<std::vector<unsigned>*>(user)->push_back(percent);
    };
    CHECK(m4_bench_run(client.get(), &options, nullptr) == M4_E_INVALID);
    CHECK(m4_bench_run(nullptr, &options, nullptr) == M4_E_INVALID);
    m4_bench* bench = nullptr;
    REQUIRE(m4_bench_run(client.get(), &options, &bench) == 0);
    CHECK(told == std::vector<unsigned>{42, 42});
    CHECK(bench->context == 16);
    CHECK(bench->passes == 4);
    CHECK(bench->token_us == 500);
    CHECK(bench->step_bytes == 1'000'000);
    CHECK(bench->timestamps == 1);
    REQUIRE(bench->kernel_count == 2);
    CHECK(std::string(bench->kernels[0].name) == "gated");
    CHECK(std::string(bench->kernels[0].operators) == "rms_norm, 2 linear");
    CHECK(bench->kernels[0].dispatches == 6);
    CHECK(bench->kernels[1].time_us == 100);
    m4_bench_free(bench);
    m4_bench_free(nullptr);
    bench = nullptr;
    CHECK(m4_bench_run(client.get(), nullptr, &bench) == M4_E_PERMISSION);
    CHECK(error_text(client.get()) == "not you");
    CHECK(m4_bench_run(client.get(), nullptr, &bench) == M4_E_PROTOCOL);
    CHECK(bench == nullptr);
    service.join();
}

TEST_CASE("a service that is too old for a bench is not asked for one") {
    FakeService service([](Conversation& talk) { serve_status(talk); });
    const ClientHandle client = connect_to(service);
    m4_bench* bench = nullptr;
    CHECK(m4_bench_run(client.get(), nullptr, &bench) == M4_E_VERSION);
    CHECK(error_text(client.get()) == "m4_bench_run needs protocol 1.3, the service speaks 1.0");
    CHECK(ask_status(client) == 0);
}

TEST_CASE("a refused request tells code, words and when to retry") {
    FakeService service([](Conversation& talk) {
        (void)talk.expect<wire::SessionCreateRequest>();
        talk.send_error(talk.id, M4_E_BUSY, "no KV memory now", 120);
        serve_status(talk);
    });
    const ClientHandle client = connect_to(service);
    m4_session* session = nullptr;
    CHECK(m4_session_create(client.get(), nullptr, &session) == M4_E_BUSY);
    CHECK(session == nullptr);
    m4_error_info info = M4_INIT(m4_error_info);
    REQUIRE(m4_client_error(client.get(), &info) == 0);
    CHECK(info.retry_after_ms == 120);
    CHECK(std::string(info.message) == "no KV memory now");
    CHECK(ask_status(client) == 0);
}

TEST_CASE("a peer that breaks the protocol ends the connection with M4_E_PROTOCOL") {
    const FdLeakCheck leaks;
    FakeService::Script script;
    SUBCASE("garbage") {
        script = [](Conversation& talk) {
            (void)talk.expect<wire::StatusRequest>();
            talk.send_raw(std::string(200, '\xff'));
        };
    }
    SUBCASE("an id nobody asked under") {
        script = [](Conversation& talk) {
            (void)talk.expect<wire::StatusRequest>();
            talk.send_sample(talk.id + 1000, wire::Body::StatusReply);
        };
    }
    SUBCASE("the reply of another request") {
        script = [](Conversation& talk) {
            (void)talk.expect<wire::StatusRequest>();
            talk.send_sample(talk.id, wire::Body::TokensReply);
        };
    }
    SUBCASE("a failure without a failing code") {
        script = [](Conversation& talk) {
            (void)talk.expect<wire::StatusRequest>();
            talk.send_error(talk.id, 0, "fine");
        };
    }
    SUBCASE("an oversized message") {
        script = [](Conversation& talk) {
            (void)talk.expect<wire::StatusRequest>();
            talk.send_raw(std::string(70000, 'x'));
        };
    }
    FakeService service([script](Conversation& talk) {
        script(talk);
        talk.await_hangup();
    });
    const ClientHandle client = connect_to(service);
    CHECK(ask_status(client) == M4_E_PROTOCOL);
    CHECK_FALSE(error_text(client.get()).empty());
    CHECK(ask_status(client) == M4_E_PROTOCOL);
    CHECK(m4_client_dispatch(client.get()) == M4_E_PROTOCOL);
}

TEST_CASE("after the service died every call says so") {
    const FdLeakCheck leaks;
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        (void)talk.expect<wire::StatusRequest>();
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    CHECK(ask_status(client) == M4_E_UNAVAILABLE);
    CHECK(error_text(client.get()) == "the service closed the connection");
    CHECK(ask_status(client) == M4_E_UNAVAILABLE);
    CHECK(m4_client_dispatch(client.get()) == M4_E_UNAVAILABLE);
    CHECK(m4_session_append_text(session.get(), "x", 1, 0) == M4_E_UNAVAILABLE);
    m4_stream* stream = nullptr;
    CHECK(m4_generate(session.get(), nullptr, &stream) == M4_E_UNAVAILABLE);
}

TEST_CASE("a call that timed out is cancelled, and its late answer dropped") {
    FakeService service([](Conversation& talk) {
        (void)talk.expect<wire::StatusRequest>();
        const std::uint64_t late = talk.id;
        if (talk.expect<wire::CancelRequest>().target() != late) {
            throw std::runtime_error("cancelled the wrong request");
        }
        (void)talk.expect<wire::StatusRequest>();
        talk.send_sample(late, wire::Body::StatusReply);
        talk.send_sample(talk.id, wire::Body::StatusReply);
    });
    const ClientHandle client = connect_to(service, 500);
    CHECK(ask_status(client) == M4_E_TIMEOUT);
    CHECK(error_text(client.get()).find("500 ms") != std::string::npos);
    CHECK(ask_status(client) == 0);
}

TEST_CASE("a session that comes too late is closed again") {
    FakeService service([](Conversation& talk) {
        (void)talk.expect<wire::SessionCreateRequest>();
        const std::uint64_t late = talk.id;
        (void)talk.expect<wire::CancelRequest>();
        talk.send_session(late, 41);
        serve_status(talk);
        if (talk.expect<wire::SessionCloseRequest>().session() != 41) {
            throw std::runtime_error("closed the wrong session");
        }
        talk.send_ok(talk.id);
        serve_status(talk);
    });
    const ClientHandle client = connect_to(service, 500);
    m4_session* session = nullptr;
    CHECK(m4_session_create(client.get(), nullptr, &session) == M4_E_TIMEOUT);
    CHECK(ask_status(client) == 0);
    CHECK(ask_status(client) == 0);
}

TEST_CASE("a service that stops reading costs time-outs, and serves again once it reads") {
    std::promise<void> go;
    FakeService service([waiting = go.get_future().share()](Conversation& talk) {
        waiting.wait();
        for (;;) {
            const wire::Frame& frame = talk.receive();
            if (frame.body_as_SessionListRequest() != nullptr) {
                talk.send_sample(frame.id(), wire::Body::SessionListReply);
                return;
            }
            if (frame.body_as_StatusRequest() != nullptr) {
                talk.send_sample(frame.id(), wire::Body::StatusReply);
            }
        }
    });
    const ClientHandle client = connect_to(service, 500);
    // As small as the kernel lets it be: after a few messages it is full.
    const int bytes = 1;
    REQUIRE(::setsockopt(m4_client_fd(client.get()), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) ==
            0);
    for (int i = 0; i < 12; ++i) {
        REQUIRE(ask_status(client) == M4_E_TIMEOUT);
    }
    go.set_value();
    int status = M4_E_TIMEOUT;
    for (int i = 0; i < 100 && status == M4_E_TIMEOUT; ++i) {
        status = ask_status(client);
    }
    CHECK(status == 0);
    m4_session_entry* entries = nullptr;
    std::size_t count = 0;
    (void)m4_session_list(client.get(), &entries, &count);
    m4_free(entries);
}
