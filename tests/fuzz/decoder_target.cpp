// SPDX-License-Identifier: MIT
#include "decoder_target.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include "media/media.hpp"

namespace m4::fuzz {

namespace {

using client_media::Floats;
using client_media::Kind;
using client_media::Media;

constexpr std::size_t kPngBegin = 8;       // its signature
constexpr std::uint32_t kTamedSide = 255;  // pixels

void require(bool holds, const char* promise) {
    if (!holds) {
        (void)std::fprintf(stderr, "promise broken: %s\n", promise);
        std::abort();
    }
}

Media decode(DecoderInput kind, std::span<const std::byte> file) {
    switch (kind) {
        case DecoderInput::image:
            return client_media::decode_image(file, "file");
        case DecoderInput::audio:
            return client_media::decode_audio(file, "file");
        case DecoderInput::features:
            return client_media::decode_tensor(file, "file", "x");
        case DecoderInput::motion:
            break;
    }
    return client_media::decode_tensor(file, "file", "x[1]", Floats::motion);
}

void check_image(const Media& media) {
    const std::uint32_t pixel = media.kind == Kind::gray8 ? 1 : 3;
    require(media.kind == Kind::gray8 || media.kind == Kind::rgb8, "an image is gray8 or rgb8");
    require(media.width >= 1 && media.height >= 1, "an image has pixels");
    require(media.width <= client_media::kMaxSide && media.height <= client_media::kMaxSide,
            "an image is within its limits");
    require(media.stride == media.width * pixel, "rows lie side by side");
    require(media.bytes.size() == std::size_t{media.stride} * media.height, "all pixels are there");
}

void check_rows(const Media& media) {
    const std::size_t element = media.kind == Kind::pcm16 ? 2 : 4;
    require(media.channels >= 1 && media.samples >= 1, "there are samples");
    require(media.bytes.size() == media.samples * media.channels * element,
            "all samples are there");
}

void check_accepted(DecoderInput kind, const Media& media) {
    require(media.bytes.size() <= client_media::kMaxBytes, "the daemon's limit holds");
    require(media.offset == 0 && media.chroma_offset == 0, "bytes begin with the first");
    if (kind == DecoderInput::audio) {
        require(media.kind == Kind::pcm16 || media.kind == Kind::pcm_f32, "sound is PCM");
        require(media.rate_hz >= 0, "a rate is none below zero");
        check_rows(media);
    } else if (kind == DecoderInput::image || media.kind == Kind::gray8 ||
               media.kind == Kind::rgb8) {
        check_image(media);
    } else if (media.kind == Kind::tokens_u32) {
        require(!media.bytes.empty() && media.bytes.size() % 4 == 0, "tokens are whole");
    } else {
        require(
            media.kind == (kind == DecoderInput::motion ? Kind::motion_f32 : Kind::features_f32),
            "floats are what was asked for");
        check_rows(media);
    }
}

std::uint32_t big_endian(const std::uint8_t* from) {
    return std::uint32_t{from[0]} << 24U | std::uint32_t{from[1]} << 16U |
           std::uint32_t{from[2]} << 8U | from[3];
}

void put_big_endian(std::uint8_t* to, std::uint32_t value) {
    for (int i = 0; i < 4; ++i) {
        to[i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
    }
}

void tame_png(std::span<std::uint8_t> file) {
    std::size_t at = kPngBegin;
    while (file.size() - at >= 12) {
        std::uint8_t* chunk = file.data() + at;
        const std::uint32_t length = big_endian(chunk);
        if (length > file.size() - at - 12) {
            return;
        }
        if (std::memcmp(chunk + 4, "IHDR", 4) == 0 && length >= 8) {
            for (std::uint8_t* side : {chunk + 8, chunk + 12}) {
                put_big_endian(side, big_endian(side) & kTamedSide);
            }
        }
        put_big_endian(chunk + 8 + length,
                       static_cast<std::uint32_t>(crc32(0, chunk + 4, length + 4)));
        at += 12 + std::size_t{length};
    }
}

void tame_jpeg(std::span<std::uint8_t> file) {
    for (std::size_t at = 2; file.size() - at >= 9; ++at) {
        const bool frame = file[at] == 0xff && file[at + 1] >= 0xc0 && file[at + 1] <= 0xcf &&
                           file[at + 1] != 0xc4;
        if (frame) {
            file[at + 5] = 0;  // the upper halves of height and width
            file[at + 7] = 0;
        }
    }
}

}  // namespace

void tame_image(std::span<std::uint8_t> file) {
    if (file.size() > kPngBegin && file[0] == 0x89) {
        tame_png(file);
    } else if (file.size() > 2 && file[0] == 0xff) {
        tame_jpeg(file);
    }
}

bool check_decoder(std::span<const std::uint8_t> bytes) {
    if (bytes.empty()) {
        return false;
    }
    const DecoderInput kind = decoder_input(bytes[0]);
    try {
        check_accepted(kind, decode(kind, std::as_bytes(bytes.subspan(1))));
        return true;
    } catch (const firmware::Error& refused) {
        const std::string text = refused.what();
        require(!refused.place().empty(), "an error names its place");
        require(text.find('\n') == std::string::npos, "a refusal is one sentence");
    } catch (const std::exception& other) {
        (void)std::fprintf(stderr, "%s\n", other.what());
        require(false, "a file is refused by an Error");
    }
    return false;
}

}  // namespace m4::fuzz
