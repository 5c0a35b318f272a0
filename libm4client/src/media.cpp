// SPDX-License-Identifier: MIT
#include "media.hpp"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <system_error>

#include "error.hpp"
#include "options.hpp"

namespace m4::client {

namespace {

/// Inputs begin at multiples of this, so that samples lie aligned.
constexpr std::size_t kAlignment = 16;

/// Bytes of a pixel (NV12: of luma), of a sample, of a feature; 0: a text.
std::uint32_t element_bytes(std::uint32_t kind) {
    switch (kind) {
        case M4_MEDIA_GRAY8:
        case M4_MEDIA_NV12:
            return 1;
        case M4_MEDIA_PCM16:
            return 2;
        case M4_MEDIA_RGB8:
            return 3;
        case M4_MEDIA_RGBA8:
        case M4_MEDIA_PCM_F32:
        case M4_MEDIA_MOTION_F32:
        case M4_MEDIA_FEATURES_F32:
            return 4;
        default:
            return 0;
    }
}

/// What the caller left to us.
m4_media completed(m4_media media) {
    const std::uint64_t element = element_bytes(media.kind);
    if (media.kind <= M4_MEDIA_NV12 && media.stride == 0) {
        const std::uint64_t stride = element * media.width;
        if (stride > UINT32_MAX) {
            throw invalid("m4_media.width is too large");
        }
        media.stride = static_cast<std::uint32_t>(stride);
    }
    if (media.kind == M4_MEDIA_NV12 && media.chroma_offset == 0) {
        media.chroma_offset = std::uint64_t{media.stride} * media.height;
    }
    const bool rows = media.kind >= M4_MEDIA_PCM16 && media.kind <= M4_MEDIA_FEATURES_F32;
    if (rows && media.samples == 0 && media.channels != 0) {
        const std::uint64_t row = element * media.channels;
        if (media.bytes % row != 0) {
            throw invalid("m4_media.bytes, " + std::to_string(media.bytes) +
                          ", is no whole number of samples of " + std::to_string(row) + " bytes");
        }
        media.samples = media.bytes / row;
    }
    return media;
}

m4_media checked(const m4_media* input) {
    if (input == nullptr) {
        throw invalid("an input is NULL");
    }
    const m4_media media = read_options(input, "m4_media");
    if (media.kind < M4_MEDIA_GRAY8 || media.kind > M4_MEDIA_TOKENS_U32) {
        throw invalid("m4_media.kind " + std::to_string(media.kind) + " is none");
    }
    if (media.in_fd > 1) {
        throw invalid("m4_media.in_fd is not 0 or 1");
    }
    if (media.in_fd == 0 && media.data == nullptr && media.bytes != 0) {
        throw invalid("m4_media.data is NULL");
    }
    if (media.in_fd == 1 && media.data != nullptr) {
        throw invalid("m4_media has both data and a descriptor");
    }
    return completed(media);
}

UniqueFd duplicate(int fd) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) {
        throw std::system_error(errno, std::generic_category(), "m4_media.fd");
    }
    return copy;
}

flatbuffers::Offset<wire::Media> table_of(protocol::Encoder& encoder, const m4_media& media,
                                          std::uint64_t offset) {
    const bool nv12 = media.kind == M4_MEDIA_NV12;
    return wire::CreateMedia(encoder.builder(), static_cast<wire::MediaKind>(media.kind), offset,
                             media.bytes, media.width, media.height, media.stride,
                             nv12 ? offset + media.chroma_offset : 0, media.channels, media.samples,
                             media.rate_hz);
}

}  // namespace

MediaInputs::MediaInputs(const m4_media* const* inputs, std::size_t count) {
    if (inputs == nullptr || count == 0) {
        throw invalid("there is no input");
    }
    if (count > protocol::kMaxInputs) {
        throw Error(M4_E_TOO_LARGE,
                    "at most " + std::to_string(protocol::kMaxInputs) + " inputs at a time");
    }
    for (std::size_t i = 0; i < count; ++i) {
        inputs_.push_back(checked(inputs[i]));
        if (inputs_.back().in_fd != 0 && count != 1) {
            throw invalid("an input in a descriptor comes alone");
        }
    }
}

MediaInputs::Placed MediaInputs::put(protocol::Encoder& encoder) const {
    static constexpr std::array<std::byte, kAlignment> kPadding{};
    Placed placed;
    std::vector<std::span<const std::byte>> pieces;
    std::uint64_t offset = 0;
    for (const m4_media& media : inputs_) {
        placed.tables.push_back(table_of(encoder, media, offset));
        if (media.in_fd != 0) {
            placed.data = encoder.put_memfd(duplicate(media.fd), media.bytes);
            return placed;
        }
        pieces.emplace_back(static_cast<const std::byte*>(media.data), media.bytes);
        const std::size_t padding = (kAlignment - media.bytes % kAlignment) % kAlignment;
        pieces.push_back(std::span(kPadding).first(padding));
        offset += media.bytes + padding;
    }
    placed.data = encoder.put_pieces(pieces);
    return placed;
}

}  // namespace m4::client
