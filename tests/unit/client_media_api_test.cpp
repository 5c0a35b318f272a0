// SPDX-License-Identifier: MIT
// libm4client_media as an app links it: files and memory into sealed descriptors, and
// what it says of those that are none.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <m4client_media.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint_writer.hpp"
#include "fd_leak.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

using Media = struct m4_media;

/// A PNG of 2 x 2 pixels, RGB: red, green, blue, white; stored, not compressed.
const std::string kPng(
    "\x89PNG\r\n\x1a\n"
    "\0\0\0\x0dIHDR\0\0\0\x02\0\0\0\x02\x08\x02\0\0\0\xfd\xd4\x9a\x73"
    "\0\0\0\x19IDAT\x78\x01\x01\x0e\0\xf1\xff\0\xff\0\0\0\xff\0\0\0\0\xff\xff\xff\xff\x1f\xee\x05"
    "\xfb\xde\xdd\xec\x2b\0\0\0\0IEND\xae\x42\x60\x82",
    82);
const std::string kPixels("\xff\0\0\0\xff\0\0\0\xff\xff\xff\xff", 12);

/// WAV of 16 bits, one channel, 8000 Hz.
std::string wav(const std::vector<std::int16_t>& samples) {
    Bytes file;
    const auto bytes = static_cast<std::uint32_t>(samples.size() * 2);
    file.data = "RIFF";
    file.number<std::uint32_t>(36 + bytes);
    file.data += "WAVEfmt ";
    file.number<std::uint32_t>(16).number<std::uint16_t>(1).number<std::uint16_t>(1);
    file.number<std::uint32_t>(8000).number<std::uint32_t>(16'000);
    file.number<std::uint16_t>(2).number<std::uint16_t>(16);
    file.data += "data";
    file.number<std::uint32_t>(bytes);
    for (const std::int16_t sample : samples) {
        file.number(sample);
    }
    return file.data;
}

/// The bytes of an input's descriptor.
std::string content(const Media& media) {
    struct stat info {};
    REQUIRE(media.in_fd == 1);
    REQUIRE(::fstat(media.fd, &info) == 0);
    REQUIRE(static_cast<std::size_t>(info.st_size) == media.bytes);
    std::string bytes(media.bytes, '\0');
    REQUIRE(::pread(media.fd, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return bytes;
}

struct Outcome {
    int code = 0;
    std::string reason;
};
using Call = std::function<int(Media*, char*, std::size_t)>;

/// Of a call that fails: it leaves what it would fill as it was.
Outcome refused(const Call& call) {
    Media media = M4_INIT(Media);
    media.width = 7;
    const Media before = media;
    std::array<char, 256> reason{};
    const int code = call(&media, reason.data(), reason.size());
    CHECK(std::memcmp(&media, &before, sizeof media) == 0);
    CHECK(call(&media, nullptr, 0) == code);
    return {code, reason.data()};
}

bool says(const Outcome& outcome, const std::string& words) {
    return outcome.reason.find(words) != std::string::npos;
}

Call loads_image(std::string path) {
    return [path = std::move(path)](Media* media, char* reason, std::size_t bytes) {
        return m4_media_load_image(path.c_str(), media, reason, bytes);
    };
}

Call loads_audio(std::string path) {
    return [path = std::move(path)](Media* media, char* reason, std::size_t bytes) {
        return m4_media_load_audio(path.c_str(), media, reason, bytes);
    };
}

Call decodes_image(std::string file) {
    return [file = std::move(file)](Media* media, char* reason, std::size_t bytes) {
        return m4_media_decode_image(file.data(), file.size(), media, reason, bytes);
    };
}

Call decodes_audio(std::string file) {
    return [file = std::move(file)](Media* media, char* reason, std::size_t bytes) {
        return m4_media_decode_audio(file.data(), file.size(), media, reason, bytes);
    };
}

}  // namespace

TEST_CASE("m4client_media: an image from its file and from memory, in a sealed descriptor") {
    const FdLeakCheck leaks;
    const TempFolder folder;
    const std::string path = (folder / "a.png").string();
    write_file(path, kPng);
    for (const bool in_memory : {false, true}) {
        CAPTURE(in_memory);
        Media media = M4_INIT(Media);
        std::array<char, 64> reason{"untouched"};
        const int code = in_memory ? m4_media_decode_image(kPng.data(), kPng.size(), &media,
                                                           reason.data(), reason.size())
                                   : m4_media_load_image(path.c_str(), &media, nullptr, 0);
        INFO(reason.data());
        REQUIRE(code == M4_OK);
        CHECK(std::string(reason.data()) == "untouched");
        CHECK(media.kind == M4_MEDIA_RGB8);
        CHECK(media.data == nullptr);
        CHECK(media.width == 2);
        CHECK(media.height == 2);
        CHECK(media.stride == 6);
        CHECK(content(media) == kPixels);
        CHECK((::fcntl(media.fd, F_GETFD) & FD_CLOEXEC) != 0);
        constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        CHECK((::fcntl(media.fd, F_GET_SEALS) & kSeals) == kSeals);
        m4_media_close(&media);
        CHECK(media.in_fd == 0);
        CHECK(media.bytes == 0);
        m4_media_close(&media);
    }
    m4_media_close(nullptr);
    // An input of the caller's own is left alone.
    Media own = M4_INIT(Media);
    own.data = kPng.data();
    own.fd = STDIN_FILENO;
    m4_media_close(&own);
    CHECK(own.data == kPng.data());
    CHECK(::fcntl(STDIN_FILENO, F_GETFD) >= 0);
}

TEST_CASE("m4client_media: sound and tensors") {
    const FdLeakCheck leaks;
    const TempFolder folder;
    const std::string sound = wav({1, -2, 300, -32'768});
    write_file(folder / "a.wav", sound);
    for (const bool in_memory : {false, true}) {
        Media media = M4_INIT(Media);
        REQUIRE((in_memory ? m4_media_decode_audio(sound.data(), sound.size(), &media, nullptr, 0)
                           : m4_media_load_audio((folder / "a.wav").c_str(), &media, nullptr, 0)) ==
                M4_OK);
        CHECK(media.kind == M4_MEDIA_PCM16);
        CHECK(media.channels == 1);
        CHECK(media.samples == 4);
        CHECK(media.rate_hz == 8000);
        CHECK(content(media) == sound.substr(44));
        m4_media_close(&media);
    }
    const std::string floats = store_values({1, 2, 3, 4, 5, 6}, Stored::f32);
    const std::string file = safetensors_bytes({{"x", {"F32", {1, 2, 3}, floats}}});
    write_file(folder / "any name", file);
    for (const std::uint32_t flags : {0U, M4_MEDIA_MOTION}) {
        for (const bool in_memory : {false, true}) {
            Media media = M4_INIT(Media);
            REQUIRE((in_memory ? m4_media_decode_tensor(file.data(), file.size(), "x[0]", flags,
                                                        &media, nullptr, 0)
                               : m4_media_load_tensor((folder / "any name").c_str(), "x[0]", flags,
                                                      &media, nullptr, 0)) == M4_OK);
            CHECK(media.kind == (flags == 0 ? M4_MEDIA_FEATURES_F32 : M4_MEDIA_MOTION_F32));
            CHECK(media.samples == 2);
            CHECK(media.channels == 3);
            CHECK(content(media) == floats);
            m4_media_close(&media);
        }
    }
}

TEST_CASE("m4client_media: bad files are refused by code, file and cause; nothing leaks") {
    const FdLeakCheck leaks;
    const TempFolder folder;
    const std::string path = (folder / "bad").string();
    Outcome told = refused(loads_image((folder / "none").string()));
    CHECK(told.code == M4_E_SYSTEM);
    CHECK(says(told, "none: cannot open: No such file"));
    told = refused(loads_image(folder.path().string()));
    CHECK(told.code == M4_E_SYSTEM);
    CHECK(says(told, "cannot read: Is a directory"));
    CHECK(refused(loads_audio(folder.path().string())).code < 0);
    write_file(path, std::string_view("GIF89a"));
    told = refused(loads_image(path));
    CHECK(told.code == M4_E_INVALID);
    CHECK(says(told, "bad: is neither a PNG nor a JPEG image"));
    told = refused(loads_audio(path));
    CHECK(told.code == M4_E_INVALID);
    CHECK(says(told, "bad: sound cannot be decoded: "));
    for (std::size_t size = 0; size + 4 < kPng.size(); ++size) {
        CHECK(refused(decodes_image(kPng.substr(0, size))).code == M4_E_INVALID);
    }
    const std::string sound = wav({1, 2, 3});
    for (std::size_t size = 0; size < 44; ++size) {
        CAPTURE(size);
        CHECK(refused(decodes_audio(sound.substr(0, size))).code == M4_E_INVALID);
    }
    // 40000 x 2 pixels, with a sum that is right.
    std::string huge = kPng;
    huge.replace(16, 4, std::string("\0\0\x9c\x40", 4));
    huge.replace(29, 4, "\xb4\x96\x2e\x7d");
    told = refused(decodes_image(huge));
    CHECK(told.code == M4_E_TOO_LARGE);
    CHECK(says(told, "the file in memory: an image of 40000 x 2 pixels"));

    const std::string file = safetensors_bytes({{"x", {"I8", {2}, "ab"}}});
    const auto tensor = [&](const char* name, std::uint32_t flags) {
        return refused([&](Media* media, char* reason, std::size_t bytes) {
            return m4_media_decode_tensor(file.data(), file.size(), name, flags, media, reason,
                                          bytes);
        });
    };
    CHECK(says(tensor("y", 0), "the file in memory: has no tensor 'y'"));
    CHECK(says(tensor("x", 0), "has type I8"));
    CHECK(says(tensor("x[", 0), "has no tensor 'x['"));
    CHECK(says(tensor("x[z]", 0), "has no whole number in its brackets"));
    CHECK(says(tensor("", 0), "has no tensor ''"));
    CHECK(says(tensor("x", 2), "flags has a bit"));
    CHECK(says(tensor(nullptr, 0), "tensor is NULL"));
}

TEST_CASE("m4client_media: arguments that are none are refused") {
    const FdLeakCheck leaks;
    Media media = M4_INIT(Media);
    CHECK(m4_media_load_image(nullptr, &media, nullptr, 0) == M4_E_INVALID);
    CHECK(m4_media_load_audio(nullptr, &media, nullptr, 0) == M4_E_INVALID);
    CHECK(m4_media_load_tensor(nullptr, "x", 0, &media, nullptr, 0) == M4_E_INVALID);
    CHECK(m4_media_decode_image(nullptr, 4, &media, nullptr, 0) == M4_E_INVALID);
    CHECK(m4_media_decode_image(nullptr, 0, &media, nullptr, 0) == M4_E_INVALID);
    CHECK(m4_media_decode_audio(nullptr, 0, &media, nullptr, 0) == M4_E_INVALID);
    CHECK(m4_media_decode_tensor(nullptr, 0, "x", 0, &media, nullptr, 0) == M4_E_INVALID);
    CHECK(m4_media_decode_image(kPng.data(), kPng.size(), nullptr, nullptr, 0) == M4_E_INVALID);
    std::array<char, 8> reason{};
    media.size = 0;
    CHECK(m4_media_decode_image(kPng.data(), kPng.size(), &media, reason.data(), reason.size()) ==
          M4_E_INVALID);
    CHECK(std::string(reason.data()) == "m4_medi");  // as much as there is room for
    CHECK(m4_media_decode_image("", 0, &media, reason.data(), 1) == M4_E_INVALID);
    CHECK(reason[0] == '\0');
    media.in_fd = 1;
    media.fd = STDIN_FILENO;
    m4_media_close(&media);  // of no size it knows
    CHECK(::fcntl(STDIN_FILENO, F_GETFD) >= 0);
}

TEST_CASE("m4client_media: many threads at once, each with its own reason") {
    const FdLeakCheck leaks;
    const TempFolder folder;
    const std::string sound = wav({1, 2, 3});
    std::vector<std::thread> threads;
    std::array<int, 4> wrong{};
    for (std::size_t t = 0; t < wrong.size(); ++t) {
        threads.emplace_back([&, t] {
            const std::string none = (folder / ("none" + std::to_string(t))).string();
            for (int i = 0; i < 200; ++i) {
                Media media = M4_INIT(Media);
                std::array<char, 256> reason{};
                const bool good =
                    m4_media_decode_audio(sound.data(), sound.size(), &media, nullptr, 0) == M4_OK;
                m4_media_close(&media);
                const bool bad = m4_media_decode_audio("RIFF", 4, &media, reason.data(),
                                                       reason.size()) == M4_E_INVALID &&
                                 m4_media_load_image(none.c_str(), &media, reason.data(),
                                                     reason.size()) == M4_E_SYSTEM &&
                                 std::string(reason.data()).rfind(none + ": ", 0) == 0;
                wrong[t] += good && bad ? 0 : 1;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(wrong == std::array<int, 4>{});
}

}  // namespace m4::test
