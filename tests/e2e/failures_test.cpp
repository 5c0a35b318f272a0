// SPDX-License-Identifier: MIT
// What m4d and m4fw say to bad images, bad checkpoints and absent devices.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
namespace fs = std::filesystem;

namespace {

Finished start(const std::vector<std::string>& extra) {
    const Scratch scratch;
    std::vector<std::string> argv = {binary("m4d"), "--socket", (scratch / "sock").string()};
    argv.insert(argv.end(), extra.begin(), extra.end());
    Process process(argv, scratch.path());
    return process.wait();
}

void flip(const fs::path& file, std::streamoff at) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at);
    const char byte = static_cast<char>(stream.get() ^ 0x10);
    stream.seekp(at);
    stream.put(byte);
}

struct Damage {
    const char* name;
    std::function<void(const fs::path&)> apply;
    const char* named_in_error;
};

}  // namespace

TEST_CASE("failures: a damaged image is refused by name of the place, before it serves") {
    NEEDS_NANO();
    const std::vector<Damage> damages = {
        {"manifest cut", [](const fs::path& d) { fs::resize_file(d / "manifest.m4m", 1000); },
         "manifest.m4m"},
        {"manifest empty", [](const fs::path& d) { fs::resize_file(d / "manifest.m4m", 0); },
         "manifest.m4m"},
        {"manifest absent", [](const fs::path& d) { fs::remove(d / "manifest.m4m"); },
         "manifest.m4m"},
        {"magic altered", [](const fs::path& d) { flip(d / "manifest.m4m", 1); }, "magic"},
        {"root altered", [](const fs::path& d) { flip(d / "manifest.m4m", 170); }, "manifest.m4m"},
        {"shard absent", [](const fs::path& d) { fs::remove(d / "seg-000.m4w"); }, "seg-000.m4w"},
        {"shard cut",
         [](const fs::path& d) {
             fs::resize_file(d / "seg-000.m4w", fs::file_size(d / "seg-000.m4w") - 1);
         },
         "seg-000.m4w"},
        {"shard longer",
         [](const fs::path& d) {
             fs::resize_file(d / "seg-000.m4w", fs::file_size(d / "seg-000.m4w") + (2 << 20));
         },
         "seg-000.m4w"},
        {"last byte altered",
         [](const fs::path& d) {
             flip(d / "seg-000.m4w",
                  static_cast<std::streamoff>(fs::file_size(d / "seg-000.m4w")) - 1);
         },
         "seg-000.m4w"},
    };
    for (const auto& damage : damages) {
        CAPTURE(damage.name);
        const Scratch scratch;
        const auto copy = scratch / "image";
        fs::copy(nano_image(), copy, fs::copy_options::recursive);
        damage.apply(copy);
        const Finished daemon = start({"--image", copy.string()});
        CAPTURE(daemon.err);
        CHECK(daemon.status == 3);
        CHECK(daemon.err.find(damage.named_in_error) != std::string::npos);
        const Finished verify = run({binary("m4fw"), "verify", copy.string()});
        CAPTURE(verify.err);
        CHECK(verify.status == 1);
        CHECK(verify.err.find(damage.named_in_error) != std::string::npos);
    }
}

TEST_CASE("failures: what m4d needs and does not find has its own exit code") {
    NEEDS_NANO();
    const Finished no_device_node = start({"--device-node", "/nonexistent/backbone"});
    CHECK(no_device_node.status == 3);
    CHECK(no_device_node.err.find("/nonexistent/backbone") != std::string::npos);
    const Finished no_gpu =
        start({"--image", nano_image().string(), "--gpu", "no-such-gpu-anywhere"});
    CHECK(no_gpu.status == 4);
    CHECK(no_gpu.err.find("no-such-gpu-anywhere") != std::string::npos);
    CHECK(start({"--no-such-option"}).status == 2);
}

TEST_CASE("failures: a socket that is served is not taken over") {
    NEEDS_NANO();
    const Service service(nano_image());
    const Scratch scratch;
    Process second({binary("m4d"), "--image", nano_image().string(), "--socket", service.socket()},
                   scratch.path());
    const Finished ended = second.wait();
    CHECK(ended.status != 0);
    CHECK(ended.err.find(service.socket()) != std::string::npos);
    CHECK(service.ctl({"status"}).status == 0);
}

TEST_CASE("failures: m4fw refuses what is no checkpoint, and leaves nothing behind") {
    const Scratch scratch;
    std::ofstream(scratch / "text.gguf") << "this is no model";
    fs::create_directory(scratch / "folder");
    std::ofstream(scratch / "folder/config.json") << R"({"model_type": "gpt2"})";
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"text.gguf", "text.gguf"}, {"folder", "gpt2"}, {"absent", "absent"}};
    for (const auto& [from, named] : cases) {
        CAPTURE(from);
        const auto out = scratch / "out";
        const Finished pack = run(
            {binary("m4fw"), "pack", "--from", (scratch / from).string(), "--out", out.string()});
        CAPTURE(pack.err);
        CHECK(pack.status == 1);
        CHECK(pack.err.find(named) != std::string::npos);
        CHECK_FALSE(fs::exists(out));
    }
    CHECK(run({binary("m4fw"), "pack"}).status == 2);
    CHECK(run({binary("m4fw"), "verify", (scratch / "absent").string()}).status == 1);
}
