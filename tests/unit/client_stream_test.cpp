// SPDX-License-Identifier: MIT
// libm4client against a scripted peer: payloads, scores and streams.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/time.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <future>
#include <numeric>

#include "fake_service.hpp"
#include "fd_leak.hpp"

using namespace m4;
using namespace m4::test;
using protocol::Encoder;

namespace {

void require(bool good, const char* what) {
    if (!good) {
        throw std::runtime_error(what);
    }
}

int ask_status(const ClientHandle& client) {
    struct m4_status status = M4_INIT(struct m4_status);
    return m4_status(client.get(), &status);
}

std::uint64_t take_generate(Conversation& talk) {
    (void)talk.expect<wire::GenerateRequest>();
    return talk.id;
}

void take_cancel_of(Conversation& talk, std::uint64_t target) {
    require(talk.expect<wire::CancelRequest>().target() == target, "cancelled another request");
}

void send_score(Conversation& talk, std::uint64_t to, std::uint32_t first,
                const std::vector<float>& logprobs, const std::vector<std::uint32_t>& ids,
                std::uint32_t offset = 0) {
    talk.send(to, [&](Encoder& e) {
        const std::vector<float> scores(ids.size(), -0.5F);
        return wire::CreateScoreChunkDirect(e.builder(), first, &logprobs, &ids, &scores, offset);
    });
}

}  // namespace

TEST_CASE("payloads of every size go and come whole") {
    const FdLeakCheck leaks;
    FakeService service([](Conversation& talk) {
        for (int i = 0; i < 3; ++i) {
            const auto& request = talk.expect<wire::TokenizeRequest>();
            protocol::BulkBytes text;
            require(protocol::take_bulk(request.text(), talk.received_fd(), SIZE_MAX, text) ==
                        protocol::Fault::kNone,
                    "bad payload");
            require(request.add_special() == (i == 0), "wrong flag");
            std::vector<std::uint32_t> ids(text.bytes().size());
            std::iota(ids.begin(), ids.end(), 0U);
            talk.send(talk.id, [&](Encoder& e) {
                const auto bulk = e.put_ids(ids);
                return wire::CreateTokensReply(e.builder(), bulk);
            });
        }
        (void)talk.expect<wire::DetokenizeRequest>();
        talk.send(talk.id, [](Encoder& e) {
            return wire::CreateTextReply(e.builder(), e.put_text(std::string(100000, 'y')));
        });
    });
    const ClientHandle client = connect_to(service);
    for (const std::size_t bytes : {std::size_t{5}, std::size_t{0}, std::size_t{1} << 20U}) {
        const std::string text(bytes, 'x');
        std::uint32_t* ids = nullptr;
        std::size_t count = 99;
        REQUIRE(m4_tokenize(client.get(), text.c_str(), bytes == 5 ? SIZE_MAX : bytes,
                            bytes == 5 ? M4_ADD_SPECIAL : 0, &ids, &count) == 0);
        CHECK(count == bytes);
        CHECK(ids != nullptr);
        CHECK((bytes == 0 || ids[bytes - 1] == bytes - 1));
        m4_free(ids);
    }
    const std::uint32_t id = 3;
    char* text = nullptr;
    std::size_t bytes = 0;
    REQUIRE(m4_detokenize(client.get(), &id, 1, &text, &bytes) == 0);
    CHECK(bytes == 100000);
    CHECK(text[bytes] == '\0');
    m4_free(text);
}

TEST_CASE("scores are put together from chunks, split rows included") {
    FakeService service([](Conversation& talk) {
        require(talk.expect<wire::ScoreRequest>().top_n() == 4, "wrong top_n");
        send_score(talk, talk.id, 0, {-1.0F, -2.0F}, {1, 2, 3, 4, 5, 6, 7, 8});
        send_score(talk, talk.id, 2, {-9.0F}, {9, 10});
        send_score(talk, talk.id, 2, {}, {11, 12}, 2);
        talk.send_sample(talk.id, wire::Body::ScoreDone);
    });
    const ClientHandle client = connect_to(service);
    const std::uint32_t ids[] = {1, 2, 3};
    m4_score_options options = M4_INIT(m4_score_options);
    options.top_n = 4;
    m4_score* score = nullptr;
    REQUIRE(m4_score_tokens(client.get(), ids, 3, &options, &score) == 0);
    CHECK(score->row_count == 3);
    CHECK(score->top_n == 4);
    CHECK(score->token_logprobs[1] == -2.0F);
    CHECK(std::isnan(score->token_logprobs[2]));
    for (std::uint32_t i = 0; i < 12; ++i) {
        CHECK(score->top_ids[i] == i + 1);
    }
    CHECK(score->top_logprobs[11] == -0.5F);
    m4_score_free(score);
}

TEST_CASE("scores with a gap, too many rows or too few break the protocol") {
    FakeService::Script script;
    SUBCASE("a row left out") {
        script = [](Conversation& talk) { send_score(talk, talk.id, 1, {-1.0F}, {}); };
    }
    SUBCASE("more rows than tokens") {
        script = [](Conversation& talk) { send_score(talk, talk.id, 0, {-1, -1, -1}, {}); };
    }
    SUBCASE("entries nobody asked for") {
        script = [](Conversation& talk) { send_score(talk, talk.id, 0, {-1.0F}, {1, 2}); };
    }
    SUBCASE("an early end") {
        script = [](Conversation& talk) {
            send_score(talk, talk.id, 0, {-1.0F}, {});
            talk.send_sample(talk.id, wire::Body::ScoreDone);
        };
    }
    FakeService service([script](Conversation& talk) {
        (void)talk.expect<wire::ScoreRequest>();
        script(talk);
        talk.await_hangup();
    });
    const ClientHandle client = connect_to(service);
    const std::uint32_t ids[] = {1, 2};
    m4_score* score = nullptr;
    CHECK(m4_score_tokens(client.get(), ids, 2, nullptr, &score) == M4_E_PROTOCOL);
    CHECK(score == nullptr);
}

TEST_CASE("a stream gives its pieces, its end and its usage") {
    const FdLeakCheck leaks;
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        (void)talk.expect<wire::SessionAppendRequest>();
        talk.send_session(talk.id, 5);
        const auto& request = talk.expect<wire::GenerateRequest>();
        require(request.session() == 5 && request.max_tokens() == 9 && request.seed() == 3 &&
                    request.stop()->size() == 1 && request.ignore_eos(),
                "wrong options");
        talk.send_chunk(talk.id, "one ", {1});
        talk.send_chunk(talk.id, "two ", {2, 3});
        talk.send_done(talk.id, wire::Finish::stop, "three");
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    REQUIRE(m4_session_append_text(session.get(), "hello", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    const char* stop = "END";
    m4_generate_options options = M4_INIT(m4_generate_options);
    options.max_tokens = 9;
    options.seed = 3;
    options.stop = &stop;
    options.stop_count = 1;
    options.ignore_eos = 1;
    m4_stream* raw = nullptr;
    REQUIRE(m4_generate(session.get(), &options, &raw) == 0);
    const StreamHandle stream(raw);
    m4_usage usage = M4_INIT(m4_usage);
    CHECK(m4_stream_usage(raw, &usage) == M4_E_WOULD_BLOCK);
    const Drained all = drain(stream);
    CHECK(all.status == 0);
    CHECK(all.text == "one two three");
    CHECK(all.ids == std::vector<std::uint32_t>{1, 2, 3});
    CHECK(all.finish == M4_FINISH_STOP);
    REQUIRE(m4_stream_usage(raw, &usage) == 0);
    CHECK(usage.output_tokens == 7);
    CHECK(usage.ttft_us == 20);
    m4_event event = M4_INIT(m4_event);
    CHECK(m4_stream_next(raw, -1, &event) == 0);
    CHECK(m4_stream_cancel(raw) == 0);
}

TEST_CASE("a refused generate tells so through its stream") {
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t first = take_generate(talk);
        talk.send_error(first, M4_E_CONTEXT_FULL, "64 of 64 tokens are used");
        (void)take_generate(talk);
        talk.send_done(talk.id, wire::Finish::eos);
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    const StreamHandle refused = start(session);
    CHECK(drain(refused).status == M4_E_CONTEXT_FULL);
    CHECK(error_text(client.get()) == "64 of 64 tokens are used");
    m4_event event = M4_INIT(m4_event);
    CHECK(m4_stream_next(refused.get(), 0, &event) == M4_E_CONTEXT_FULL);
    // Its end was seen, so the session is free.
    CHECK(drain(start(session)).finish == M4_FINISH_EOS);
}

TEST_CASE("an event loop: poll, dispatch, next without waiting") {
    std::promise<void> go;
    FakeService service([waiting = go.get_future().share()](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        waiting.wait();
        talk.send_chunk(id, "a");
        talk.send_chunk(id, "b");
        talk.send_done(id, wire::Finish::length, "c");
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    const StreamHandle stream = start(session);
    m4_event event = M4_INIT(m4_event);
    CHECK(m4_stream_next(stream.get(), 0, &event) == M4_E_WOULD_BLOCK);
    CHECK(m4_stream_next(stream.get(), 1, &event) == M4_E_WOULD_BLOCK);
    CHECK(m4_stream_next(stream.get(), -2, &event) == M4_E_INVALID);
    CHECK(m4_client_dispatch(client.get()) == 0);
    go.set_value();
    std::string text;
    int status = M4_E_WOULD_BLOCK;
    while (status != 0) {
        pollfd entry = {m4_client_fd(client.get()), m4_client_events(client.get()), 0};
        REQUIRE(entry.events == POLLIN);
        REQUIRE(::poll(&entry, 1, 10000) == 1);
        const int moved = m4_client_dispatch(client.get());
        CHECK((moved == 0 || moved == M4_E_UNAVAILABLE));
        while ((status = m4_stream_next(stream.get(), 0, &event)) == 1) {
            text.append(event.text, event.text_bytes);
        }
        REQUIRE((status == 0 || status == M4_E_WOULD_BLOCK));
    }
    CHECK(text == "abc");
    CHECK(event.finish == M4_FINISH_LENGTH);
}

TEST_CASE("two streams and a call between them do not mix") {
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        talk.serve_session(6);
        const std::uint64_t a = take_generate(talk);
        const std::uint64_t b = take_generate(talk);
        (void)talk.expect<wire::StatusRequest>();
        const std::uint64_t status = talk.id;
        for (int i = 0; i < 50; ++i) {
            talk.send_chunk(b, "b", {2});
            talk.send_chunk(a, "a", {1});
            if (i == 25) {
                talk.send_sample(status, wire::Body::StatusReply);
            }
        }
        talk.send_done(b, wire::Finish::eos);
        talk.send_done(a, wire::Finish::length);
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session_a = make_session(client);
    const SessionHandle session_b = make_session(client);
    const StreamHandle a = start(session_a);
    const StreamHandle b = start(session_b);
    CHECK(ask_status(client) == 0);
    const Drained first = drain(a);
    CHECK(first.text == std::string(50, 'a'));
    CHECK(first.ids == std::vector<std::uint32_t>(50, 1));
    CHECK(first.finish == M4_FINISH_LENGTH);
    const Drained second = drain(b);
    CHECK(second.text == std::string(50, 'b'));
    CHECK(second.finish == M4_FINISH_EOS);
}

TEST_CASE("the service dies in mid-stream: what came is read, then the error") {
    const FdLeakCheck leaks;
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        talk.send_chunk(id, "half a sent");
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    const StreamHandle stream = start(session);
    service.join();
    const Drained all = drain(stream);
    CHECK(all.text == "half a sent");
    CHECK(all.finish == M4_FINISH_NONE);
    CHECK(all.status == M4_E_UNAVAILABLE);
    CHECK(m4_stream_cancel(stream.get()) == 0);
    m4_usage usage = M4_INIT(m4_usage);
    CHECK(m4_stream_usage(stream.get(), &usage) == M4_E_WOULD_BLOCK);
}

TEST_CASE("a stream that ends badly breaks the protocol") {
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        talk.send_done(id, static_cast<wire::Finish>(77));
        talk.await_hangup();
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    CHECK(drain(start(session)).status == M4_E_PROTOCOL);
    CHECK(ask_status(client) == M4_E_PROTOCOL);
}

TEST_CASE("waiting for a stream ends with the client's time limit and goes on") {
    std::promise<void> go;
    FakeService service([waiting = go.get_future().share()](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        waiting.wait();
        talk.send_done(id, wire::Finish::eos, "late");
    });
    const ClientHandle client = connect_to(service, 500);
    const SessionHandle session = make_session(client);
    const StreamHandle stream = start(session);
    m4_event event = M4_INIT(m4_event);
    CHECK(m4_stream_next(stream.get(), -1, &event) == M4_E_TIMEOUT);
    go.set_value();
    CHECK(m4_stream_next(stream.get(), 10000, &event) == 1);
    CHECK(std::string(event.text, event.text_bytes) == "late");
}

TEST_CASE("signals of the app neither end a wait nor shorten it") {
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        take_cancel_of(talk, id);
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    const StreamHandle stream = start(session);
    struct sigaction before = {};
    struct sigaction action = {};
    action.sa_handler = [](int) {};  // and no SA_RESTART
    REQUIRE(::sigaction(SIGALRM, &action, &before) == 0);
    const itimerval often = {{0, 2000}, {0, 2000}};
    REQUIRE(::setitimer(ITIMER_REAL, &often, nullptr) == 0);
    const auto begin = std::chrono::steady_clock::now();
    m4_event event = M4_INIT(m4_event);
    CHECK(m4_stream_next(stream.get(), 40, &event) == M4_E_WOULD_BLOCK);
    CHECK(std::chrono::steady_clock::now() - begin >= std::chrono::milliseconds(40));
    const itimerval never = {};
    REQUIRE(::setitimer(ITIMER_REAL, &never, nullptr) == 0);
    REQUIRE(::sigaction(SIGALRM, &before, nullptr) == 0);
    CHECK(m4_stream_cancel(stream.get()) == 0);
    service.join();
}

TEST_CASE("cancel asks once; the stream ends as cancelled") {
    FakeService service([](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        talk.send_chunk(id, "some");
        take_cancel_of(talk, id);
        talk.send_done(id, wire::Finish::cancelled);
        (void)talk.expect<wire::StatusRequest>();  // and no second cancel before
        talk.send_sample(talk.id, wire::Body::StatusReply);
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    const StreamHandle stream = start(session);
    CHECK(m4_stream_cancel(stream.get()) == 0);
    CHECK(m4_stream_cancel(stream.get()) == 0);
    const Drained all = drain(stream);
    CHECK(all.text == "some");
    CHECK(all.finish == M4_FINISH_CANCELLED);
    CHECK(ask_status(client) == 0);
}

TEST_CASE("an open stream keeps its session busy; a closed one is waited for") {
    std::atomic<bool> ended{false};
    FakeService service([&ended](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        take_cancel_of(talk, id);
        talk.send_chunk(id, "too late to be read");
        ended = true;
        talk.send_done(id, wire::Finish::cancelled);
        (void)talk.expect<wire::SessionAppendRequest>();
        talk.send_session(talk.id, 5);
        (void)talk.expect<wire::SessionInfoRequest>();
        talk.send_session(talk.id, 5);
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    StreamHandle stream = start(session);
    m4_stream* second = nullptr;
    CHECK(m4_session_append_text(session.get(), "x", 1, 0) == M4_E_BUSY);
    CHECK(m4_session_truncate(session.get(), 1) == M4_E_BUSY);
    CHECK(m4_generate(session.get(), nullptr, &second) == M4_E_BUSY);
    CHECK(second == nullptr);
    stream.reset();
    CHECK(m4_session_append_text(session.get(), "x", 1, 0) == 0);
    CHECK(ended);
    std::uint32_t position = 0;
    CHECK(m4_session_position(session.get(), &position, nullptr) == 0);
    CHECK(position == 3);
}

TEST_CASE("handles closed in any order are safe") {
    const FdLeakCheck leaks;
    SUBCASE("the session before its stream") {
        FakeService service([](Conversation& talk) {
            talk.serve_session(5);
            const std::uint64_t id = take_generate(talk);
            (void)talk.expect<wire::SessionCloseRequest>();
            talk.send_ok(talk.id);
            talk.send_done(id, wire::Finish::cancelled, "rest");
        });
        const ClientHandle client = connect_to(service);
        SessionHandle session = make_session(client);
        const StreamHandle stream = start(session);
        session.reset();
        const Drained all = drain(stream);
        CHECK(all.text == "rest");
        CHECK(all.finish == M4_FINISH_CANCELLED);
    }
    SUBCASE("the client before both") {
        FakeService service([](Conversation& talk) {
            talk.serve_session(5);
            (void)take_generate(talk);
            talk.await_hangup();
        });
        ClientHandle client = connect_to(service);
        const SessionHandle session = make_session(client);
        const StreamHandle stream = start(session);
        client.reset();
        CHECK(drain(stream).status == M4_E_UNAVAILABLE);
        CHECK(m4_stream_cancel(stream.get()) == 0);
        CHECK(m4_session_truncate(session.get(), 0) == M4_E_UNAVAILABLE);
    }
}

TEST_CASE("an unread stream pauses dispatch, then gives way to other calls") {
    const std::string piece(32 * 1024, 'x');
    std::promise<void> paused;
    FakeService service([&, waiting = paused.get_future().share()](Conversation& talk) {
        talk.serve_session(5);
        const std::uint64_t id = take_generate(talk);
        for (int i = 0; i < 9; ++i) {
            talk.send_chunk(id, piece);  // 288 KiB: over the pause, under the limit
        }
        waiting.wait();
        (void)talk.expect<wire::StatusRequest>();
        const std::uint64_t status = talk.id;
        for (int i = 0; i < 130; ++i) {
            talk.send_chunk(id, piece);  // beyond 4 MiB
        }
        talk.send_sample(status, wire::Body::StatusReply);
        take_cancel_of(talk, id);
        talk.send_chunk(id, "after the cancel");
        talk.send_done(id, wire::Finish::cancelled);
        (void)talk.expect<wire::StatusRequest>();
        talk.send_sample(talk.id, wire::Body::StatusReply);
    });
    const ClientHandle client = connect_to(service);
    const SessionHandle session = make_session(client);
    const StreamHandle stream = start(session);
    while (m4_client_events(client.get()) == POLLIN) {
        pollfd entry = {m4_client_fd(client.get()), POLLIN, 0};
        REQUIRE(::poll(&entry, 1, 10000) == 1);
        REQUIRE(m4_client_dispatch(client.get()) == 0);
    }
    CHECK(m4_client_events(client.get()) == 0);
    paused.set_value();
    CHECK(ask_status(client) == 0);
    CHECK(m4_client_events(client.get()) == POLLIN);
    const Drained all = drain(stream);
    CHECK(all.status == M4_E_TOO_LARGE);
    CHECK(all.text.size() > 4UL * 1024 * 1024);
    CHECK(all.text.size() < 5UL * 1024 * 1024);
    CHECK(ask_status(client) == 0);
}
