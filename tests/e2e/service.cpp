// SPDX-License-Identifier: MIT
#include "service.hpp"

#include <doctest/doctest.h>

#include <chrono>
#include <map>
#include <stdexcept>
#include <thread>
#include <utility>

#include "skip.hpp"

namespace m4::test {

Service::Service(const std::filesystem::path& image, const std::vector<std::string>& extra,
                 const std::vector<std::string>& environment)
    : socket_((scratch_ / "m4d.sock").string()) {
    std::vector<std::string> argv = {binary("m4d"),
                                     "--image",
                                     image.string(),
                                     "--socket",
                                     socket_,
                                     "--cache-dir",
                                     (scratch_ / "cache").string()};
    argv.insert(argv.end(), extra.begin(), extra.end());
    process_ = std::make_unique<Process>(argv, scratch_.path(), environment);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (m4_availability(socket_.c_str(), nullptr, 0) != M4_AVAILABLE) {
        if (!process_->running()) {
            throw std::runtime_error("m4d ended at start: " + process_->err());
        }
        if (std::chrono::steady_clock::now() > end) {
            throw std::runtime_error("m4d did not come up: " + process_->err());
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(10));  // pace of the poll only
    }
}

Finished Service::ctl(const std::vector<std::string>& arguments, const std::string& input) const {
    std::vector<std::string> argv = {binary("m4ctl"), "--socket", socket_};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return run(argv, input);
}

nlohmann::json Service::ctl_json(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const Finished finished = ctl(arguments);
    INFO(finished.err);
    REQUIRE(finished.status == 0);
    return nlohmann::json::parse(finished.out);
}

Client connect(const std::string& socket) {
    m4_connect_options options = M4_INIT(struct m4_connect_options);
    options.socket_path = socket.c_str();
    options.client_name = "e2e";
    options.timeout_ms = 120000;
    m4_client* client = nullptr;
    const int status = m4_client_connect(&options, &client);
    if (status != 0) {
        throw std::runtime_error(std::string("connect: ") + m4_strerror(status));
    }
    return Client(client);
}

Session open_session(m4_client* client, std::uint32_t capacity) {
    m4_session_options options = M4_INIT(struct m4_session_options);
    options.capacity = capacity;
    m4_session* session = nullptr;
    if (m4_session_create(client, &options, &session) != 0) {
        throw std::runtime_error("session: " + last_error(client));
    }
    return Session(session);
}

Generated drain(m4_stream* stream) {
    Generated result;
    m4_event event = M4_INIT(struct m4_event);
    int status = 0;
    while ((status = m4_stream_next(stream, -1, &event)) == 1) {
        result.text.append(event.text, event.text_bytes);
        result.ids.insert(result.ids.end(), event.ids, event.ids + event.id_count);
        result.finish = event.finish;
    }
    if (status < 0) {
        throw std::runtime_error(std::string("stream: ") + m4_strerror(status));
    }
    result.usage = M4_INIT(struct m4_usage);
    REQUIRE(m4_stream_usage(stream, &result.usage) == 0);
    return result;
}

Generated generate(m4_session* session, const m4_generate_options& options) {
    m4_stream* stream = nullptr;
    const int status = m4_generate(session, &options, &stream);
    if (status != 0) {
        throw std::runtime_error(std::string("generate: ") + m4_strerror(status));
    }
    Generated result = drain(stream);
    m4_stream_close(stream);
    return result;
}

std::string last_error(const m4_client* client) {
    m4_error_info info = M4_INIT(struct m4_error_info);
    if (m4_client_error(client, &info) != 0 || info.code == 0) {
        return "no error recorded";
    }
    return std::string(m4_strerror(info.code)) + ": " +
           (info.message != nullptr ? info.message : "");
}

std::filesystem::path packed(const std::filesystem::path& from, const std::string& stored) {
    static Scratch scratch;
    static std::map<std::pair<std::string, std::string>, std::filesystem::path> done;
    auto& folder = done[{from.string(), stored}];
    if (folder.empty()) {
        const auto target = scratch / ("image-" + std::to_string(done.size()));
        const Finished pack = run({binary("m4fw"), "pack", "--from", from.string(), "--out",
                                   target.string(), "--quantize", stored});
        if (pack.status != 0) {
            throw std::runtime_error("m4fw pack: " + pack.err);
        }
        folder = target;
    }
    return folder;
}

std::filesystem::path nano_image() {
    const std::filesystem::path image =
        std::filesystem::path(source_root()) / "firmware/nano/image";
    return std::filesystem::exists(image / "manifest.m4m") ? image : std::filesystem::path{};
}

}  // namespace m4::test
