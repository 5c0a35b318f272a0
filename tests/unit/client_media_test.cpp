// SPDX-License-Identifier: MIT
// Media files as m4ctl decodes them. The tests write their own, by the other halves of
// the same libraries.
#include <doctest/doctest.h>
#include <spng.h>
#include <turbojpeg.h>
#include <zlib.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "checkpoint_writer.hpp"
#include "image_samples.hpp"
#include "media/media.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

using client_media::Kind;
using client_media::Media;

struct Colour {
    spng_color_type type;
    std::uint8_t depth;
};

std::string png(std::uint32_t width, std::uint32_t height, Colour colour,
                const std::string& pixels) {
    spng_ctx* context = spng_ctx_new(SPNG_CTX_ENCODER);
    REQUIRE(spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1) == 0);
    spng_ihdr header{};
    header.width = width;
    header.height = height;
    header.color_type = static_cast<std::uint8_t>(colour.type);
    header.bit_depth = colour.depth;
    REQUIRE(spng_set_ihdr(context, &header) == 0);
    if (colour.type == SPNG_COLOR_TYPE_INDEXED) {
        spng_plte palette{};
        palette.n_entries = 2;
        palette.entries[1] = {10, 20, 30, 0};
        REQUIRE(spng_set_plte(context, &palette) == 0);
    }
    REQUIRE(spng_encode_image(context, pixels.data(), pixels.size(), SPNG_FMT_RAW,
                              SPNG_ENCODE_FINALIZE) == 0);
    std::size_t size = 0;
    int error = 0;
    void* bytes = spng_get_png_buffer(context, &size, &error);
    REQUIRE(error == 0);
    std::string file(static_cast<const char*>(bytes), size);
    std::free(bytes);
    spng_ctx_free(context);
    return file;
}

std::string jpeg(int width, int height, int format, const std::string& pixels) {
    tjhandle handle = tjInitCompress();
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    REQUIRE(tjCompress2(handle, reinterpret_cast<const unsigned char*>(pixels.data()), width, 0,
                        height, format, &bytes, &size,
                        format == TJPF_GRAY ? TJSAMP_GRAY : TJSAMP_444, 95, 0) == 0);
    std::string file(reinterpret_cast<const char*>(bytes), size);
    tjFree(bytes);
    (void)tjDestroy(handle);
    return file;
}

/// Big-endian, as both image formats have it.
void put(std::string& file, std::size_t at, std::uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) {
        file.at(at + static_cast<std::size_t>(i)) =
            static_cast<char>(value >> (8 * (bytes - 1 - i)));
    }
}

std::string text_of(const Media& media) {
    return {reinterpret_cast<const char*>(media.bytes.data()), media.bytes.size()};
}

Media image(const TempFolder& folder, const std::string& bytes) {
    write_file(folder / "image", bytes);
    return client_media::load_image(folder / "image");
}

std::string image_refusal(const TempFolder& folder, const std::string& bytes) {
    return refusal([&] { (void)image(folder, bytes); });
}

std::string some(std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t i = 0; i < count; ++i) {
        bytes[i] = static_cast<char>(i * 41 + i / 7);
    }
    return bytes;
}

}  // namespace

TEST_CASE("client media: PNG of every kind becomes gray8 or rgb8") {
    const TempFolder folder;
    const std::string pixels = some(5 * 3 * 3);
    Media media = image(folder, png(5, 3, {SPNG_COLOR_TYPE_TRUECOLOR, 8}, pixels));
    CHECK(media.kind == Kind::rgb8);
    CHECK(media.width == 5);
    CHECK(media.height == 3);
    CHECK(media.stride == 15);
    CHECK(text_of(media) == pixels);
    media = image(folder, png(5, 3, {SPNG_COLOR_TYPE_GRAYSCALE, 8}, pixels.substr(0, 15)));
    CHECK(media.kind == Kind::gray8);
    CHECK(media.stride == 5);
    CHECK(text_of(media) == pixels.substr(0, 15));
    media = image(folder, png(2, 1, {SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, 8},
                              "abc\x01"
                              "def\x7f"));
    CHECK(media.kind == Kind::rgb8);
    CHECK(text_of(media) == "abcdef");
    media = image(folder, png(2, 1, {SPNG_COLOR_TYPE_TRUECOLOR, 16}, "aAbBcCdDeEfF"));
    CHECK(text_of(media) == "abcdef");
    media = image(folder, png(2, 1, {SPNG_COLOR_TYPE_INDEXED, 8}, {"\x01\x00", 2}));
    CHECK(text_of(media) == std::string("\x0a\x14\x1e\0\0\0", 6));
    media = image(folder, png(4, 1, {SPNG_COLOR_TYPE_GRAYSCALE, 1}, "\xa0"));
    CHECK(text_of(media) == std::string("\xff\0\xff\0", 4));
}

TEST_CASE("client media: a broken PNG is refused wherever it breaks") {
    const TempFolder folder;
    const std::string whole = png(9, 9, {SPNG_COLOR_TYPE_TRUECOLOR, 8}, some(9 * 9 * 3));
    for (std::size_t size = 0; size + 4 < whole.size(); ++size) {  // the end's own sum
        CAPTURE(size);
        CHECK(image_refusal(folder, whole.substr(0, size)) != "accepted");
    }
    for (std::size_t at = 8; at < whole.size(); ++at) {
        std::string bytes = whole;
        bytes[at] ^= '\x10';
        CAPTURE(at);
        CHECK(contains(image_refusal(folder, bytes), "image: "));
    }
    // A bomb: few bytes that say they are many pixels, with a sum that is right.
    std::string bomb = whole;
    for (const auto& [width, height] : {std::pair{30'000U, 9U}, {16'000U, 16'000U}}) {
        put(bomb, 16, width, 4);
        put(bomb, 20, height, 4);
        const auto sum = crc32(0, reinterpret_cast<const Bytef*>(bomb.data()) + 12, 17);
        put(bomb, 29, static_cast<std::uint32_t>(sum), 4);
        CHECK(contains(image_refusal(folder, bomb),
                       "image: an image of " + std::to_string(width) + " x "));
    }
    CHECK(contains(image_refusal(folder, "GIF89a"), "image: is neither a PNG nor a JPEG image"));
    CHECK(contains(image_refusal(folder, ""), "image: is neither a PNG nor a JPEG image"));
    CHECK(contains(refusal([&] { (void)client_media::load_image(folder / "none"); }), "none: "));
}

TEST_CASE("client media: JPEG, whole and broken") {
    const TempFolder folder;
    std::string flat;
    for (int i = 0; i < 20 * 10; ++i) {
        flat += {'\xc8', '\x64', '\x32'};
    }
    const std::string whole = jpeg(20, 10, TJPF_RGB, flat);
    Media media = image(folder, whole);
    CHECK(media.kind == Kind::rgb8);
    CHECK(media.width == 20);
    CHECK(media.height == 10);
    REQUIRE(media.bytes.size() == flat.size());
    for (std::size_t i = 0; i < flat.size(); ++i) {
        REQUIRE(std::abs(std::to_integer<int>(media.bytes[i]) -
                         static_cast<int>(static_cast<unsigned char>(flat[i]))) <= 3);
    }
    media = image(folder, jpeg(8, 8, TJPF_GRAY, std::string(64, '\x40')));
    CHECK(media.kind == Kind::gray8);
    CHECK(media.bytes.at(9) == std::byte{0x40});
    for (std::size_t size = 0; size + 2 < whole.size(); ++size) {
        CAPTURE(size);
        CHECK(image_refusal(folder, whole.substr(0, size)) != "accepted");
    }
    CHECK(contains(image_refusal(folder, jpeg(8, 8, TJPF_CMYK, some(256))),
                   "image: JPEG cannot be decoded: "));
    std::string bomb = whole;
    const std::size_t frame = bomb.find("\xff\xc0");
    REQUIRE(frame != std::string::npos);
    put(bomb, frame + 5, 60'000, 2);
    put(bomb, frame + 7, 60'000, 2);
    CHECK(contains(image_refusal(folder, bomb), "image: an image of 60000 x 60000 pixels"));
}

TEST_CASE("client media: tensors as features, motion and images") {
    const TempFolder folder;
    const std::string file = (folder / "t.safetensors").string();
    std::vector<float> values(24);
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(i);
    }
    const std::string floats = store_values(values, Stored::f32);
    const std::string pixels = some(24);
    std::string token_ids;
    for (const std::int64_t id : {1, 2, 3, 49406, 5, 49407}) {
        token_ids.append(reinterpret_cast<const char*>(&id), sizeof id);
    }
    write_file(file, safetensors_bytes({{"a", {"F32", {2, 3, 4}, floats}},
                                        {"a[0]", {"F32", {24}, floats}},
                                        {"half", {"F16", {24}, store_values(values, Stored::f16)}},
                                        {"one", {"F32", {}, floats.substr(0, 4)}},
                                        {"ids", {"I64", {2, 3}, token_ids}},
                                        {"no ids", {"I32", {2}, std::string(8, '\xff')}},
                                        {"brain", {"BF16", {12}, pixels}},
                                        {"gray", {"U8", {2, 3, 4}, pixels}},
                                        {"rgb", {"U8", {4, 2, 3}, pixels}},
                                        {"planes", {"U8", {3, 2, 4}, pixels}},
                                        {"row", {"U8", {24}, pixels}}}));
    const auto load = [&](const std::string& name) {
        return client_media::load_tensor(file + "#" + name);
    };
    Media media = load("a");
    CHECK(media.kind == Kind::features_f32);
    CHECK(media.samples == 6);
    CHECK(media.channels == 4);
    CHECK(text_of(media) == floats);
    media = client_media::load_tensor(file + "#a[1]", client_media::Floats::motion);
    CHECK(media.kind == Kind::motion_f32);
    CHECK(media.samples == 3);
    CHECK(media.channels == 4);
    CHECK(media.rate_hz == 0);
    CHECK(text_of(media) == floats.substr(48));
    // Names may have brackets of their own.
    CHECK(contains(refusal([&] { (void)load("a[0][5]"); }), "tensor 'a[0]': is a number"));
    CHECK(text_of(load("half")) == floats);
    media = load("gray[1]");
    CHECK(media.kind == Kind::gray8);
    CHECK(media.width == 4);
    CHECK(media.height == 3);
    CHECK(text_of(media) == pixels.substr(12));
    media = load("rgb");
    CHECK(media.kind == Kind::rgb8);
    CHECK(media.width == 2);
    CHECK(media.height == 4);
    CHECK(text_of(media) == pixels);
    media = load("planes");
    CHECK(media.width == 4);
    CHECK(media.height == 2);
    const std::string wanted = {pixels[0], pixels[8], pixels[16], pixels[1], pixels[9]};
    CHECK(text_of(media).substr(0, 5) == wanted);

    const auto refused = [&](const std::string& name) {
        return refusal([&] { (void)load(name); });
    };
    CHECK(contains(refused("a[2]"), "tensor 'a': has no item 2; its shape is [2, 3, 4]"));
    CHECK(contains(refused("a[-1]"), "has no whole number in its brackets"));
    CHECK(contains(refused("a[99999999999999999999]"), "has no whole number in its brackets"));
    CHECK(contains(refused("b"), "t.safetensors: has no tensor 'b'"));
    CHECK(contains(refused(""), "is not FILE.safetensors#NAME"));
    CHECK(contains(refused("one"), "tensor 'one': is a number, no input"));
    CHECK(contains(refused("half[3]"), "tensor 'half': is a number, no input"));
    media = load("ids[1]");
    CHECK(media.kind == Kind::tokens_u32);
    std::array<std::uint32_t, 3> ids{};
    REQUIRE(media.bytes.size() == sizeof ids);
    std::memcpy(ids.data(), media.bytes.data(), sizeof ids);
    CHECK(ids == std::array<std::uint32_t, 3>{49406, 5, 49407});
    CHECK(contains(refused("ids"), "[2, 3] is no list of tokens"));
    CHECK(contains(refused("no ids"), "token 0, -1, is no id"));
    CHECK(contains(refused("brain"), "has type BF16; inputs are F32, F16, U8, I32 or I64"));
    CHECK(contains(refused("row"), "tensor 'row': [24] is no image"));
    CHECK(client_media::names_tensor(file + "#a"));
    CHECK_FALSE(client_media::names_tensor("picture.png"));
    write_file(file, safetensors_bytes({{"short", {"U8", {2, 3}, pixels.substr(0, 5)}}}));
    CHECK(contains(refused("short"), "has fewer bytes than its shape says"));
}

}  // namespace m4::test
