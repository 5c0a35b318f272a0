// SPDX-License-Identifier: MIT
// The command-line contract that scripts rely on.
#include <doctest/doctest.h>

#include <csignal>
#include <fstream>
#include <string>

#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

const Service& nano() {
    static const Service service(nano_image());
    return service;
}

}  // namespace

TEST_CASE("run: stdout holds the continuation and nothing else") {
    NEEDS_NANO();
    const Finished greedy =
        nano().ctl({"run", "--greedy", "--max-tokens", "12", "Once upon a time"});
    REQUIRE(greedy.status == 0);
    CHECK(greedy.err.empty());
    CHECK_FALSE(greedy.out.empty());
    CHECK(greedy.out.find("Once upon a time") == std::string::npos);
    CHECK(greedy.out.back() != '\n');

    SUBCASE("the prompt may come from stdin") {
        const Finished piped =
            nano().ctl({"run", "--greedy", "--max-tokens", "12", "-"}, "Once upon a time");
        CHECK(piped.out == greedy.out);
    }
    SUBCASE("JSON carries the same text, ids and usage") {
        const json object =
            nano().ctl_json({"run", "--greedy", "--max-tokens", "12", "Once upon a time"});
        CHECK(object.at("text") == greedy.out);
        CHECK(object.at("ids").size() == 12);
        CHECK(object.at("finish") == "length");
        CHECK(object.at("usage").at("output_tokens") == 12);
    }
}

TEST_CASE("run: the same seed gives the same text, another seed another") {
    NEEDS_NANO();
    const auto text = [](const char* seed) {
        return nano()
            .ctl({"run", "--temperature", "1.2", "--top-p", "1", "--max-tokens", "60", "--seed",
                  seed, "Once upon a time"})
            .out;
    };
    const std::string first = text("7");
    CHECK(first == text("7"));
    CHECK(first != text("8"));
}

TEST_CASE("run: a stop text ends the output before it") {
    NEEDS_NANO();
    const std::string whole =
        nano().ctl({"run", "--greedy", "--max-tokens", "80", "Once upon a time"}).out;
    const std::size_t end = whole.find(". ");
    REQUIRE(end != std::string::npos);
    const json stopped = nano().ctl_json(
        {"run", "--greedy", "--max-tokens", "80", "--stop", ". ", "Once upon a time"});
    CHECK(stopped.at("text") == whole.substr(0, end));
    CHECK(stopped.at("finish") == "stop");
}

TEST_CASE("score: rows predict the next token, best first") {
    NEEDS_NANO();
    const json object = nano().ctl_json({"score", "--ids", "1,20,30", "--top", "2"});
    const json& rows = object.at("positions");
    REQUIRE(rows.size() == 3);
    CHECK(rows[0].at("id") == 1);
    CHECK(rows[2].at("id") == 30);
    for (const auto& row : rows) {
        REQUIRE(row.at("top").size() == 2);
        CHECK(row.at("top")[0].at("logprob").get<double>() >=
              row.at("top")[1].at("logprob").get<double>());
        CHECK(row.at("top")[0].at("logprob").get<double>() <= 0.0);
    }
}

TEST_CASE("tokenize: ids as text and as JSON, and back") {
    NEEDS_NANO();
    const Finished plain = nano().ctl({"tokenize", "A little cat."});
    REQUIRE(plain.status == 0);
    const json object = nano().ctl_json({"tokenize", "A little cat."});
    std::string joined;
    for (const auto& id : object.at("ids")) {
        joined += (joined.empty() ? "" : " ") + std::to_string(id.get<int>());
    }
    CHECK(plain.out == joined + "\n");
    CHECK(object.at("ids")[0] == 1);

    std::vector<std::string> back = {"detokenize"};
    for (const auto& id : object.at("ids")) {
        back.push_back(std::to_string(id.get<int>()));
    }
    const Finished text = nano().ctl(back);
    CHECK(text.out.substr(0, 13) == "A little cat.");
}

TEST_CASE("status: what runs where, and what was copied") {
    NEEDS_NANO();
    const json status = nano().ctl_json({"status"});
    CHECK(status.at("weights_import").is_string());
    CHECK(status.at("weight_bytes").get<std::uint64_t>() > 0);
    if (status.at("weights_import") == "host_pointer") {
        CHECK(status.at("copied_bytes") == 0);
    } else {
        CHECK(status.at("copied_bytes") == status.at("weight_bytes"));
    }
    const json model = nano().ctl_json({"firmware", "show"});
    CHECK(model.at("digest").get<std::string>().size() == 64);
    CHECK(model.at("source") == "folder");
    CHECK(nano().ctl({"ps"}).status == 0);
    const Finished doctor = nano().ctl({"doctor", "--json"});
    CHECK(json::parse(doctor.out).is_object());
    const Finished warm = nano().ctl({"doctor", "--warm", "--json"});
    CHECK(json::parse(warm.out).at("checks").size() > 3);
    CHECK(nano().ctl_json({"status"}).at("cold") == 0);
}

TEST_CASE("exit codes: usage 2, no service 3, refused request 1") {
    NEEDS_NANO();
    CHECK(nano().ctl({"run", "--no-such-option"}).status == 2);
    CHECK(nano().ctl({"no-such-command"}).status == 2);
    const Finished nobody =
        run({binary("m4ctl"), "--socket", (nano().scratch() / "absent").string(), "status"});
    CHECK(nobody.status == 3);
    CHECK(nobody.err.rfind("m4ctl: ", 0) == 0);
    const Finished refused = nano().ctl({"score", "--ids", "1,999999"});
    CHECK(refused.status == 1);
    CHECK(refused.out.empty());
    CHECK(refused.err.find("999999") != std::string::npos);
}

TEST_CASE("m4fw: verify and inspect tell a good image from an altered one") {
    NEEDS_NANO();
    const Scratch scratch;
    const auto copy = scratch / "image";
    std::filesystem::copy(nano_image(), copy, std::filesystem::copy_options::recursive);
    CHECK(run({binary("m4fw"), "verify", copy.string()}).status == 0);
    const Finished inspect = run({binary("m4fw"), "inspect", copy.string(), "--json"});
    REQUIRE(inspect.status == 0);
    CHECK(json::parse(inspect.out).at("digest") ==
          nano().ctl_json({"firmware", "show"}).at("digest"));

    std::fstream shard(copy / "seg-000.m4w", std::ios::in | std::ios::out | std::ios::binary);
    shard.seekg(4096);
    const char altered = static_cast<char>(shard.get() ^ 1);
    shard.seekp(4096);
    shard.put(altered);
    shard.close();
    const Finished verify = run({binary("m4fw"), "verify", copy.string()});
    CHECK(verify.status == 1);
    CHECK(verify.err.find("seg-000.m4w") != std::string::npos);

    const Scratch daemon;
    Process process(
        {binary("m4d"), "--image", copy.string(), "--socket", (daemon / "sock").string()},
        daemon.path());
    const Finished ended = process.wait();
    CHECK(ended.status == 3);
    CHECK(ended.err.find("seg-000.m4w") != std::string::npos);
}

TEST_CASE("m4d: SIGTERM drains and leaves no socket behind") {
    NEEDS_NANO();
    Service service(nano_image());
    REQUIRE(service.ctl({"status"}).status == 0);
    service.process().signal(SIGTERM);
    CHECK(service.process().wait().status == 0);
    CHECK_FALSE(std::filesystem::exists(service.socket()));
}

TEST_CASE("m4d: started by the first connection to a socket that another process holds") {
    NEEDS_NANO();
    const std::string activator = "/usr/bin/systemd-socket-activate";
    if (!std::filesystem::exists(activator)) {
        M4_SKIP("no systemd-socket-activate");
    }
    const Scratch scratch;
    const std::string socket = (scratch / "m4d.sock").string();
    Process held({activator, "--seqpacket", "--listen=" + socket, binary("m4d"), "--image",
                  nano_image().string(), "--cache-dir", (scratch / "cache").string()},
                 scratch.path());
    while (!std::filesystem::exists(socket)) {
        REQUIRE(held.running());
    }
    const Finished answer =
        run({binary("m4ctl"), "--socket", socket, "run", "--greedy", "--max-tokens", "3", "Once"});
    INFO(answer.err, held.err());
    CHECK(answer.status == 0);
    CHECK_FALSE(answer.out.empty());
    held.signal(SIGTERM);
    CHECK(held.wait().status == 0);
    CHECK(std::filesystem::exists(socket));  // the holder's to remove, not ours
}
