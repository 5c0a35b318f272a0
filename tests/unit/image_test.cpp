// SPDX-License-Identifier: MIT
#include "lib/image.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>

#include "image_samples.hpp"
#include "lib/error.hpp"
#include "lib/manifest_writer.hpp"
#include "lib/sha256.hpp"
#include "lib/verify.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

using namespace m4::firmware;
using namespace m4::test;

namespace {

using Bytes = std::vector<std::byte>;
constexpr std::size_t kChunk = M4_IMAGE_CHUNK_BYTES;

/// An image of several shards of one chunk, written once; copied by each case.
const std::filesystem::path& pristine() {
    static const TempFolder temp;
    static const auto folder = [] {
        TinyDims dims;
        dims.vocabulary = 20'000;
        write_tiny_model(make_tiny_model(dims, 11), temp / "image", "tiny", kChunk);
        return temp / "image";
    }();
    return folder;
}

/// A copy to damage.
struct Copy {
    TempFolder temp;
    std::filesystem::path folder = temp / "copy";

    Copy() { std::filesystem::copy(pristine(), folder); }
    [[nodiscard]] std::string place(const std::string& name) const {
        return (folder / name).string();
    }
    [[nodiscard]] std::string open() const {
        return refusal([&] { static_cast<void>(MappedImage::open_folder(folder)); });
    }
    void flip(const std::string& name, std::size_t offset) const {
        Bytes bytes = read_file(folder / name);
        bytes.at(offset) ^= std::byte{0x10};
        write_file(folder / name, bytes);
    }
};

Bytes manifest_of(const std::filesystem::path& folder) {
    return read_file(folder / "manifest.m4m");
}

/// Makes the trailer right again, as whoever can write the file could.
void reseal(Bytes& manifest) {
    Sha256 sha;
    sha.update(std::span(manifest).first(manifest.size() - M4_IMAGE_DIGEST_BYTES));
    const Digest digest = sha.finish();
    std::memcpy(manifest.data() + manifest.size() - digest.size(), digest.data(), digest.size());
}

std::string parse(const Bytes& manifest) {
    return refusal([&] { static_cast<void>(Image::parse(manifest, "m")); });
}

template <typename T>
void poke(Bytes& bytes, std::size_t offset, T value) {
    std::memcpy(&bytes.at(offset), &value, sizeof(value));
}

template <typename T>
T peek(const Bytes& bytes, std::size_t offset) {
    T value{};
    std::memcpy(&value, &bytes.at(offset), sizeof(value));
    return value;
}

constexpr std::size_t kTensorsField = offsetof(m4_image_header, tensors);

}  // namespace

TEST_CASE("an image is mapped in the device's layout") {
    std::atomic<std::uint64_t> most = 0;
    std::atomic<int> calls = 0;
    const MappedImage mapped =
        MappedImage::open_folder(pristine(), [&](std::uint64_t done, std::uint64_t total) {
            ++calls;
            most = std::max(most.load(), done);
            REQUIRE(total == 6 * kChunk);
        });
    CHECK(calls == 6);
    CHECK(most == 6 * kChunk);
    const Image& image = mapped.image();
    CHECK(image.segments().size() == 6);
    CHECK(image.payload_bytes() == mapped.payload().size());
    CHECK(reinterpret_cast<std::uintptr_t>(mapped.payload().data()) % kChunk == 0);
    const auto* base = mapped.payload().data() - M4_IMAGE_MANIFEST_SPAN;
    const Bytes manifest = manifest_of(pristine());
    CHECK(std::memcmp(base, manifest.data(), manifest.size()) == 0);
    for (std::size_t at = manifest.size(); at < M4_IMAGE_MANIFEST_SPAN; at += 509) {
        REQUIRE(base[at] == std::byte{});
    }
    for (std::size_t i = 0; i < 6; ++i) {
        const Bytes shard = read_file(pristine() / ("seg-00" + std::to_string(i) + ".m4w"));
        REQUIRE(std::memcmp(mapped.payload().data() + i * kChunk, shard.data(), kChunk) == 0);
    }
    CHECK(image.chunk_matches(2, mapped.payload().subspan(2 * kChunk, kChunk)));
    CHECK_FALSE(image.chunk_matches(3, mapped.payload().subspan(2 * kChunk, kChunk)));
    CHECK_FALSE(image.chunk_matches(99, mapped.payload().first(kChunk)));
    CHECK(to_hex(image.digest()).size() == 64);

    MappedImage moved = MappedImage::open_folder(pristine());
    const auto* payload = moved.payload().data();
    MappedImage target = std::move(moved);
    CHECK(target.payload().data() == payload);
    CHECK(target.image().name() == "tiny");
}

TEST_CASE("an altered payload is refused by shard, chunk and bytes") {
    for (const std::size_t offset : {std::size_t{0}, std::size_t{4096}, kChunk / 2, kChunk - 1}) {
        const Copy copy;
        copy.flip("seg-003.m4w", offset);
        CHECK(copy.open() ==
              copy.place("seg-003.m4w") + ": chunk 0 (bytes 0..2097151): digest does not match");
    }
    const Copy two;  // the first in order is the one reported, whatever finishes first
    two.flip("seg-005.m4w", 1);
    two.flip("seg-001.m4w", 1);
    for (int i = 0; i < 20; ++i) {
        REQUIRE(contains(two.open(), "seg-001.m4w: chunk 0"));
    }

    TempFolder temp;
    TinyDims dims;
    dims.vocabulary = 20'000;
    write_tiny_model(make_tiny_model(dims, 11), temp / "image", "tiny", 1ULL << 30U);
    Bytes shard = read_file(temp / "image" / "seg-000.m4w");
    shard.at(3 * kChunk) ^= std::byte{1};
    write_file(temp / "image" / "seg-000.m4w", shard);
    CHECK(contains(refusal([&] { static_cast<void>(MappedImage::open_folder(temp / "image")); }),
                   "seg-000.m4w: chunk 3 (bytes 6291456..8388607): digest does not match"));
}

TEST_CASE("shards that are missing, swapped, short, long or something else") {
    {
        const Copy copy;
        std::filesystem::remove(copy.folder / "seg-004.m4w");
        CHECK(copy.open() ==
              copy.place("seg-004.m4w") + ": cannot open: No such file or directory");
    }
    {
        const Copy copy;
        std::filesystem::rename(copy.folder / "seg-001.m4w", copy.folder / "x");
        std::filesystem::rename(copy.folder / "seg-002.m4w", copy.folder / "seg-001.m4w");
        std::filesystem::rename(copy.folder / "x", copy.folder / "seg-002.m4w");
        CHECK(contains(copy.open(), "seg-001.m4w: chunk 0 (bytes 0..2097151): digest does not"));
    }
    for (const std::size_t size : {std::size_t{0}, kChunk - 1, kChunk + 1, 2 * kChunk}) {
        const Copy copy;
        std::filesystem::resize_file(copy.folder / "seg-002.m4w", size);
        CHECK(copy.open() == copy.place("seg-002.m4w") + ": " + std::to_string(size) +
                                 " bytes instead of 2097152");
    }
    {
        const Copy copy;
        std::filesystem::remove(copy.folder / "seg-002.m4w");
        std::filesystem::create_symlink(pristine() / "seg-002.m4w", copy.folder / "seg-002.m4w");
        CHECK(copy.open() ==
              copy.place("seg-002.m4w") + ": is a symbolic link, which is not followed");
    }
    {
        const Copy copy;
        std::filesystem::remove(copy.folder / "seg-002.m4w");
        REQUIRE(::mkfifo((copy.folder / "seg-002.m4w").c_str(), 0600) == 0);
        CHECK(copy.open() == copy.place("seg-002.m4w") + ": is not a regular file");
    }
}

TEST_CASE("manifests that are missing, empty, too long or cut") {
    {
        const Copy copy;
        std::filesystem::remove(copy.folder / "manifest.m4m");
        CHECK(copy.open() ==
              copy.place("manifest.m4m") + ": cannot open: No such file or directory");
        std::filesystem::create_directory(copy.folder / "manifest.m4m");
        CHECK(copy.open() == copy.place("manifest.m4m") + ": is not a regular file");
    }
    const Bytes whole = manifest_of(pristine());
    const Copy copy;
    for (std::size_t size = 0; size < whole.size(); size = size * 2 + 1) {
        write_file(copy.folder / "manifest.m4m", std::span(whole).first(size));
        CHECK(contains(copy.open(), copy.place("manifest.m4m") + ": "));
    }
    Bytes longer = whole;
    longer.resize(whole.size() + 8);
    write_file(copy.folder / "manifest.m4m", longer);
    CHECK(contains(copy.open(), "manifest.m4m: header.manifest_bytes (byte 32): not"));
    std::filesystem::resize_file(copy.folder / "manifest.m4m", (2U << 20U) + 1);
    CHECK(contains(copy.open(), "manifest.m4m: 2097153 bytes, not 1 byte to 2 MiB"));
    CHECK(contains(
        refusal([&] { static_cast<void>(MappedImage::open_folder(copy.temp / "absent")); }),
        "absent: cannot open: No such file or directory"));
    for (std::size_t size = 0; size < whole.size(); size += 7) {
        REQUIRE(parse({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}) !=
                "accepted");
    }
}

TEST_CASE("a header that lies about sizes is refused before anything is mapped") {
    const Bytes whole = manifest_of(pristine());
    const auto lie = [&](std::size_t offset, std::uint64_t value) {
        const Copy copy;
        Bytes manifest = whole;
        poke(manifest, offset, value);
        reseal(manifest);
        write_file(copy.folder / "manifest.m4m", manifest);
        return copy.open();
    };
    constexpr std::size_t kPayload = offsetof(m4_image_header, payload_bytes);
    CHECK(contains(lie(kPayload, UINT64_MAX), "header.payload_bytes (byte 40)"));
    CHECK(contains(lie(kPayload, 0), "header.payload_bytes (byte 40)"));
    CHECK(contains(lie(kPayload, M4_IMAGE_PAYLOAD_MAX), "header.payload_bytes (byte 40)"));
    CHECK(contains(lie(kPayload, 7 * kChunk), "header.payload_bytes (byte 40)"));
    CHECK(contains(lie(offsetof(m4_image_header, manifest_bytes), UINT64_MAX),
                   "header.manifest_bytes (byte 32)"));
    CHECK(contains(lie(kTensorsField, UINT64_MAX), "header.tensors"));
    CHECK(contains(
        lie(kTensorsField, peek<std::uint64_t>(whole, offsetof(m4_image_header, segments))),
        "overlaps another"));
}

TEST_CASE("table entries are named by their index") {
    const Bytes whole = manifest_of(pristine());
    const std::size_t tensors = peek<std::uint32_t>(whole, kTensorsField);
    const auto entry = [&](std::size_t index, std::size_t field) {
        return tensors + index * sizeof(m4_image_tensor) + field;
    };
    Bytes manifest = whole;
    poke(manifest, entry(3, offsetof(m4_image_tensor, payload_offset)), std::uint64_t{0});
    CHECK(contains(parse(manifest), "m: tensor 3 (byte " + std::to_string(entry(3, 0)) + "): "));
    manifest = whole;
    poke(manifest, entry(5, offsetof(m4_image_tensor, bytes)), UINT64_MAX);
    CHECK(contains(parse(manifest), "m: tensor 5 (byte "));
    // Two tensors of one name: structurally sound, so the reader must look.
    manifest = whole;
    poke(manifest, entry(4, 0), peek<std::uint64_t>(whole, entry(2, 0)));
    reseal(manifest);
    CHECK(contains(parse(manifest), "m: tensor 4: a second tensor '"));
    // A program that does not suit the tensors.
    manifest = whole;
    poke(manifest, entry(1, offsetof(m4_image_tensor, part)), std::uint32_t{7});
    reseal(manifest);
    CHECK(contains(parse(manifest), "m: tensor 'embedding': part 7 does not exist"));
    manifest = whole;
    poke(manifest, peek<std::uint32_t>(whole, offsetof(m4_image_header, program)), UINT64_MAX);
    reseal(manifest);
    CHECK(parse(manifest) == "m: program blob: not a well-formed package");
}

TEST_CASE("every flipped bit is refused; resealed, none is trusted") {
    const Bytes whole = manifest_of(pristine());
    REQUIRE(parse(whole) == "accepted");
    std::mt19937 random(3);
    for (std::size_t i = 0; i < whole.size(); ++i) {
        Bytes manifest = whole;
        manifest[i] ^= std::byte{static_cast<unsigned char>(1U << random() % 8)};
        const std::string text = parse(manifest);
        CAPTURE(i);
        REQUIRE(text.starts_with("m: "));
        reseal(manifest);
        const std::string resealed = parse(manifest);
        REQUIRE((resealed == "accepted" || resealed.starts_with("m: ")));
    }
}

TEST_CASE("a tree of two levels") {
    // 300 chunks are three leaf blocks; no payload is needed to check them.
    const MappedImage tiny = MappedImage::open_folder(pristine());
    ManifestContent content;
    content.name = "large";
    content.version = "1";
    content.segments = {{0, 300 * kChunk}};
    content.tensors = tiny.image().tensors();
    content.program = encode_package(tiny.image().package());
    const Digest salt = derive_salt(content);
    std::vector<Digest> leaves(300);
    const Bytes chunk(kChunk, std::byte{7});
    Sha256 sha;
    sha.update(std::as_bytes(std::span(salt)));
    sha.update(chunk);
    leaves[299] = sha.finish();
    Bytes manifest = encode_manifest(content, salt, leaves);
    const Image image = Image::parse(manifest, "m");
    CHECK(image.manifest().tree_bytes == 4 * M4_IMAGE_BLOCK_BYTES);
    CHECK(image.chunk_matches(299, chunk));
    CHECK_FALSE(image.chunk_matches(298, chunk));

    const auto tree = static_cast<std::size_t>(
        reinterpret_cast<const std::byte*>(image.manifest().tree) - manifest.data());
    Bytes damaged = manifest;
    damaged.at(tree + 299 * 32) ^= std::byte{1};
    reseal(damaged);
    CHECK(contains(parse(damaged), "m: tree 2 (byte "));
    damaged = manifest;
    damaged.at(tree + 3 * M4_IMAGE_BLOCK_BYTES) ^= std::byte{1};
    reseal(damaged);
    CHECK(contains(parse(damaged), "m: tree 0 (byte "));
}

TEST_CASE("a device is a character device that begins with a header") {
    const auto open = [](const std::filesystem::path& node) {
        return refusal([&] { static_cast<void>(MappedImage::open_device(node)); });
    };
    CHECK(open(pristine() / "manifest.m4m") ==
          (pristine() / "manifest.m4m").string() + ": is not a character device");
    CHECK(open("/dev/m4/absent") == "/dev/m4/absent: cannot open: No such file or directory");
    CHECK(open("/dev/zero") == "/dev/zero: does not begin with the header of an image");
    CHECK(contains(open("/dev/null"), "/dev/null: cannot map: "));
}

TEST_CASE("what a progress callback throws reaches the caller") {
    CHECK(refusal([] {
              static_cast<void>(MappedImage::open_folder(
                  pristine(),
                  [](std::uint64_t, std::uint64_t) { throw Error("caller", "had enough"); }));
          }) == "caller: had enough");
}
