// SPDX-License-Identifier: MIT
// Print a continuation of the first argument as it is generated.
//
//     c++ -std=c++17 story.cpp $(pkg-config --cflags --libs m4client) -o story
#include <m4client.h>

#include <cstdint>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

template <auto close>
struct Closer {
    template <typename T>
    void operator()(T* handle) const {
        close(handle);
    }
};
using Client = std::unique_ptr<m4_client, Closer<m4_client_close>>;
using Session = std::unique_ptr<m4_session, Closer<m4_session_close>>;
using Stream = std::unique_ptr<m4_stream, Closer<m4_stream_close>>;

static void check(int code, const Client& client) {
    if (code < 0) {
        auto info = M4_INIT(m4_error_info);
        m4_client_error(client.get(), &info);
        throw std::runtime_error(std::string(m4_strerror(code)) + ": " + info.message);
    }
}

int main(int argc, char** argv) try {
    const char* prompt = argc > 1 ? argv[1] : "Once upon a time";
    m4_client* raw_client = nullptr;
    check(m4_client_connect(nullptr, &raw_client), Client());
    const Client client(raw_client);
    m4_session* raw_session = nullptr;
    check(m4_session_create(client.get(), nullptr, &raw_session), client);
    const Session session(raw_session);
    check(m4_session_append_text(session.get(), prompt, SIZE_MAX, M4_ADD_SPECIAL), client);

    auto options = M4_INIT(m4_generate_options);
    options.max_tokens = 100;
    options.temperature = 0.8F;
    m4_stream* raw_stream = nullptr;
    check(m4_generate(session.get(), &options, &raw_stream), client);
    const Stream stream(raw_stream);
    auto event = M4_INIT(m4_event);
    int code = 0;
    while ((code = m4_stream_next(stream.get(), -1, &event)) == 1) {
        std::cout.write(event.text, static_cast<std::streamsize>(event.text_bytes)).flush();
    }
    check(code, client);
    std::cout << '\n';
} catch (const std::exception& error) {
    std::cerr << "story: " << error.what() << '\n';
    return 1;
}
