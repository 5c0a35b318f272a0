// SPDX-License-Identifier: MIT
// Sessions through libm4client: contexts that grow, shrink, overflow and end.
#include <doctest/doctest.h>

#include <poll.h>

#include <string>
#include <vector>

#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;

namespace {

const Service& nano() {
    static const Service service(nano_image());
    return service;
}

m4_generate_options greedy(std::uint32_t max_tokens) {
    m4_generate_options options = M4_INIT(struct m4_generate_options);
    options.max_tokens = max_tokens;
    options.ignore_eos = 1;
    return options;
}

std::uint32_t position(m4_session* session) {
    std::uint32_t held = 0;
    REQUIRE(m4_session_position(session, &held, nullptr) == 0);
    return held;
}

}  // namespace

TEST_CASE("session: a context built in pieces continues like one built at once") {
    NEEDS_NANO();
    const Client client = connect(nano().socket());
    const Session whole = open_session(client.get());
    REQUIRE(m4_session_append_text(whole.get(), "Once upon a time there was a fox.", SIZE_MAX,
                                   M4_ADD_SPECIAL) == 0);
    std::uint32_t* ids = nullptr;
    std::size_t count = 0;
    REQUIRE(m4_tokenize(client.get(), "Once upon a time there was a fox.", SIZE_MAX, M4_ADD_SPECIAL,
                        &ids, &count) == 0);
    const Session pieces = open_session(client.get());
    for (std::size_t i = 0; i < count; ++i) {
        REQUIRE(m4_session_append_tokens(pieces.get(), ids + i, 1) == 0);
    }
    m4_free(ids);
    CHECK(position(whole.get()) == count);
    const Generated one = generate(whole.get(), greedy(40));
    const Generated two = generate(pieces.get(), greedy(40));
    CHECK(one.ids.size() == 40);
    CHECK(one.ids == two.ids);
    CHECK(one.text == two.text);
    CHECK(one.finish == M4_FINISH_LENGTH);
    CHECK(position(whole.get()) == count + 40);
}

TEST_CASE("session: generation in two calls equals one, and reuses what it computed") {
    NEEDS_NANO();
    const Client client = connect(nano().socket());
    const Session once = open_session(client.get());
    const Session twice = open_session(client.get());
    for (m4_session* session : {once.get(), twice.get()}) {
        REQUIRE(m4_session_append_text(session, "A bird sat in a tree.", SIZE_MAX,
                                       M4_ADD_SPECIAL) == 0);
    }
    const Generated whole = generate(once.get(), greedy(30));
    Generated parts = generate(twice.get(), greedy(10));
    const Generated rest = generate(twice.get(), greedy(20));
    parts.ids.insert(parts.ids.end(), rest.ids.begin(), rest.ids.end());
    CHECK(parts.ids == whole.ids);
    CHECK(parts.text + rest.text == whole.text);
    CHECK(rest.usage.cached_tokens + 1 >= rest.usage.prompt_tokens);
    CHECK(rest.usage.output_tokens == 20);
}

TEST_CASE("session: truncate goes back in time") {
    NEEDS_NANO();
    const Client client = connect(nano().socket());
    const Session session = open_session(client.get());
    REQUIRE(m4_session_append_text(session.get(), "The sun was warm.", SIZE_MAX, M4_ADD_SPECIAL) ==
            0);
    const std::uint32_t start = position(session.get());
    const Generated first = generate(session.get(), greedy(25));
    REQUIRE(m4_session_truncate(session.get(), start) == 0);
    CHECK(position(session.get()) == start);
    const Generated again = generate(session.get(), greedy(25));
    CHECK(first.ids == again.ids);
    CHECK(m4_session_truncate(session.get(), 100000) == M4_E_INVALID);
}

TEST_CASE("session: an overflow is an error that changes nothing") {
    NEEDS_NANO();
    const Client client = connect(nano().socket());
    const Session session = open_session(client.get(), 24);
    REQUIRE(m4_session_append_text(session.get(), "The dog ran.", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    const std::uint32_t before = position(session.get());
    std::string large;
    for (int i = 0; i < 100; ++i) {
        large += "The dog ran to the park. ";
    }
    CHECK(m4_session_append_text(session.get(), large.c_str(), SIZE_MAX, 0) == M4_E_CONTEXT_FULL);
    CHECK(last_error(client.get()).find("24") != std::string::npos);
    CHECK(position(session.get()) == before);
    const Generated result = generate(session.get(), greedy(0));
    CHECK(result.finish == M4_FINISH_CONTEXT);
    CHECK(result.ids.size() >= 24 - before);
    CHECK(m4_session_truncate(session.get(), before) == 0);
    CHECK(generate(session.get(), greedy(2)).ids.size() == 2);
}

TEST_CASE("session: cancel ends the stream, the session goes on") {
    NEEDS_NANO();
    const Client client = connect(nano().socket());
    const Session session = open_session(client.get());
    REQUIRE(m4_session_append_text(session.get(), "Once", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    const m4_generate_options options = greedy(400);
    m4_stream* stream = nullptr;
    REQUIRE(m4_generate(session.get(), &options, &stream) == 0);
    m4_event event = M4_INIT(struct m4_event);
    REQUIRE(m4_stream_next(stream, -1, &event) == 1);
    REQUIRE(m4_stream_cancel(stream) == 0);
    const Generated rest = drain(stream);
    CHECK(rest.finish == M4_FINISH_CANCELLED);
    m4_stream_close(stream);

    SUBCASE("closing an unfinished stream cancels as well") {
        REQUIRE(m4_generate(session.get(), &options, &stream) == 0);
        m4_stream_close(stream);
    }
    const std::uint32_t now = position(session.get());
    CHECK(m4_session_truncate(session.get(), 2) == 0);
    CHECK(now > 2);
    CHECK(generate(session.get(), greedy(3)).ids.size() == 3);
}

TEST_CASE("session: two streams of one client, driven by an event loop") {
    NEEDS_NANO();
    const Client client = connect(nano().socket());
    const Session a = open_session(client.get());
    const Session b = open_session(client.get());
    REQUIRE(m4_session_append_text(a.get(), "The cat", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    REQUIRE(m4_session_append_text(b.get(), "The rain", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    const m4_generate_options options = greedy(20);
    m4_stream* streams[2] = {};
    REQUIRE(m4_generate(a.get(), &options, &streams[0]) == 0);
    REQUIRE(m4_generate(b.get(), &options, &streams[1]) == 0);
    std::vector<std::uint32_t> ids[2];
    bool open[2] = {true, true};
    while (open[0] || open[1]) {
        pollfd wait{m4_client_fd(client.get()), m4_client_events(client.get()), 0};
        REQUIRE(poll(&wait, 1, 120000) == 1);
        REQUIRE(m4_client_dispatch(client.get()) == 0);
        for (int i = 0; i < 2; ++i) {
            m4_event event = M4_INIT(struct m4_event);
            int status = 1;
            while (open[i] && (status = m4_stream_next(streams[i], 0, &event)) == 1) {
                ids[i].insert(ids[i].end(), event.ids, event.ids + event.id_count);
            }
            REQUIRE((status == 1 || status == 0 || status == M4_E_WOULD_BLOCK));
            open[i] = open[i] && status != 0;
        }
    }
    for (m4_stream* stream : streams) {
        m4_stream_close(stream);
    }
    REQUIRE(m4_session_truncate(a.get(), position(a.get()) - 20) == 0);
    REQUIRE(m4_session_truncate(b.get(), position(b.get()) - 20) == 0);
    CHECK(generate(a.get(), options).ids == ids[0]);
    CHECK(generate(b.get(), options).ids == ids[1]);
}

TEST_CASE("session: contexts come and go without leaking KV memory") {
    NEEDS_NANO();
    const Service service(nano_image());  // of its own: nobody else's contexts
    const Client client = connect(service.socket());
    const auto used = [&] {
        struct m4_status status = M4_INIT(struct m4_status);
        REQUIRE(m4_status(client.get(), &status) == 0);
        return status.kv_used_bytes;
    };
    const std::uint64_t before = used();
    for (int round = 0; round < 20; ++round) {
        const Session session = open_session(client.get());
        REQUIRE(m4_session_append_text(session.get(), "Hi", SIZE_MAX, M4_ADD_SPECIAL) == 0);
        CHECK(generate(session.get(), greedy(1)).ids.size() == 1);
        CHECK(used() > before);
    }
    CHECK(used() == before);
}

TEST_CASE("session: a clone goes on as its original, over the same memory") {
    NEEDS_NANO();
    const Service service(nano_image());  // of its own: nobody else's contexts
    const Client client = connect(service.socket());
    const auto status = [&] {
        struct m4_status now = M4_INIT(struct m4_status);
        REQUIRE(m4_status(client.get(), &now) == 0);
        return now;
    };
    Session original = open_session(client.get());
    REQUIRE(m4_session_append_text(original.get(), "Once upon a time there was a fox.", SIZE_MAX,
                                   M4_ADD_SPECIAL) == 0);
    (void)generate(original.get(), greedy(150));
    const std::uint32_t start = position(original.get());
    const auto before = status();
    CHECK(before.kv_pages > before.kv_pages_used);
    REQUIRE(before.kv_pages_used >= 2);
    CHECK(before.kv_pages_shared == 0);

    m4_session* made = nullptr;
    REQUIRE(m4_session_clone(original.get(), &made) == 0);
    Session clone(made);
    CHECK(position(clone.get()) == start);
    CHECK(status().kv_pages_used == before.kv_pages_used);
    CHECK(status().kv_pages_shared == before.kv_pages_used);
    const Generated one = generate(original.get(), greedy(20));
    const Generated two = generate(clone.get(), greedy(20));
    CHECK(one.ids.size() == 20);
    CHECK(one.ids == two.ids);
    CHECK(two.usage.cached_tokens + 1 >= start);
    const auto apart = status();
    CHECK(apart.kv_pages_shared == (start - 1) / 64);
    CHECK(apart.kv_pages_used < 2 * before.kv_pages_used);
    CHECK(apart.sessions == 2);

    SUBCASE("the clone closes") {
        clone.reset();
        CHECK(generate(original.get(), greedy(5)).ids.size() == 5);
    }
    SUBCASE("the original closes") {
        original.reset();
        CHECK(generate(clone.get(), greedy(5)).ids.size() == 5);
    }
    const std::uint32_t pages = (start + 25 - 1 + 63) / 64;  // the last token was not fed
    CHECK(status().kv_pages_used == pages);
    CHECK(status().kv_pages_shared == 0);
    CHECK(status().kv_used_bytes == pages * (status().kv_pool_bytes / status().kv_pages));
}

TEST_CASE("text: larger than a message, there and back") {
    NEEDS_NANO();
    const Client client = connect(nano().socket());
    std::string text;
    while (text.size() < 300000) {
        text += "The little bird sang in the \xC3\xA4ltest tree \xF0\x9F\x8C\xB3. ";
    }
    std::uint32_t* ids = nullptr;
    std::size_t count = 0;
    REQUIRE(m4_tokenize(client.get(), text.data(), text.size(), M4_ADD_SPECIAL, &ids, &count) == 0);
    char* back = nullptr;
    std::size_t bytes = 0;
    REQUIRE(m4_detokenize(client.get(), ids, count, &back, &bytes) == 0);
    CHECK(std::string(back, bytes) == text);
    m4_free(back);
    m4_free(ids);
    const std::string huge(80U << 20, 'a');
    CHECK(m4_tokenize(client.get(), huge.data(), huge.size(), 0, &ids, &count) == M4_E_TOO_LARGE);
    struct m4_status status = M4_INIT(struct m4_status);
    CHECK(m4_status(client.get(), &status) == 0);
}
