// SPDX-License-Identifier: MIT
// An image that goes while it is served: nobody gets a wrong answer, and the
// service stays to say what happened.
#include <doctest/doctest.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
namespace fs = std::filesystem;

namespace {

constexpr const char* kSentence = "the image's files changed under us";

m4_generate_options endless() {
    m4_generate_options options = M4_INIT(struct m4_generate_options);
    options.ignore_eos = 1;
    return options;
}

/// The code a stream ends with; its text so far goes to `text`.
int end_of(m4_stream* stream, std::string& text) {
    m4_event event = M4_INIT(struct m4_event);
    int status = 0;
    while ((status = m4_stream_next(stream, -1, &event)) == 1) {
        text.append(event.text, event.text_bytes);
    }
    return status;
}

std::string state_of(m4_client* client) {
    struct m4_status status = M4_INIT(struct m4_status);
    REQUIRE(m4_status(client, &status) == 0);
    struct m4_model_info info = M4_INIT(struct m4_model_info);
    REQUIRE(m4_model_info(client, &info) == 0);
    CHECK(std::string(info.state) == status.model_state);
    return status.model_state;
}

}  // namespace

TEST_CASE("lost: a shard cut while tokens are generated fails them with VERIFY, and no more") {
    NEEDS_NANO();
    const Scratch folder;
    const auto image = folder / "image";
    fs::copy(nano_image(), image, fs::copy_options::recursive);
    Service service(image);
    const Client client = connect(service.socket());
    const Client other = connect(service.socket());
    CHECK(state_of(client.get()) == "ready");
    struct m4_status figures = M4_INIT(struct m4_status);
    REQUIRE(m4_status(client.get(), &figures) == 0);
    if (std::string(figures.weights_import) == "staging") {
        M4_SKIP("the device computes from copies of its own");
    }

    // What the untouched image says, for comparison.
    const Session whole = open_session(client.get());
    REQUIRE(m4_session_append_text(whole.get(), "Once upon a time", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    const std::string right = generate(whole.get(), endless()).text;

    const Session late = open_session(other.get());
    REQUIRE(m4_session_append_text(late.get(), "Hi", SIZE_MAX, M4_ADD_SPECIAL) == 0);
    const Session session = open_session(client.get());
    REQUIRE(m4_session_append_text(session.get(), "Once upon a time", SIZE_MAX, M4_ADD_SPECIAL) ==
            0);
    const m4_generate_options options = endless();
    m4_stream* stream = nullptr;
    REQUIRE(m4_generate(session.get(), &options, &stream) == 0);
    m4_event event = M4_INIT(struct m4_event);
    REQUIRE(m4_stream_next(stream, -1, &event) == 1);
    std::string text(event.text, event.text_bytes);

    fs::resize_file(image / "seg-000.m4w", 0);
    const int status = end_of(stream, text);
    if (status == M4_E_VERIFY) {  // else it had ended before the file was cut
        CHECK(last_error(client.get()).find(kSentence) != std::string::npos);
    } else {
        CHECK(status == 0);
    }
    m4_stream_close(stream);
    // Each token that came is one of the whole image's.
    CHECK(right.compare(0, text.size(), text) == 0);

    // What comes later is computed by nobody.
    std::string nothing;
    REQUIRE(m4_generate(late.get(), &options, &stream) == 0);
    CHECK(end_of(stream, nothing) == M4_E_VERIFY);
    m4_stream_close(stream);
    CHECK(nothing.empty());
    CHECK(last_error(other.get()).find(kSentence) != std::string::npos);

    // And the service says so, to whoever was there and to who comes.
    CHECK(state_of(client.get()) == "revoked");
    const Client newcomer = connect(service.socket());
    CHECK(state_of(newcomer.get()) == "revoked");
    std::uint32_t* ids = nullptr;
    std::size_t count = 0;
    CHECK(m4_tokenize(newcomer.get(), "Hi", SIZE_MAX, 0, &ids, &count) == M4_E_VERIFY);
    CHECK(service.process().running());
    CHECK(service.process().err().find(kSentence) != std::string::npos);
    service.process().signal(SIGTERM);
    CHECK(service.process().wait().status == 0);
    CHECK_FALSE(fs::exists(service.socket()));
}
