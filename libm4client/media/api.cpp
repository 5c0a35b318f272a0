// SPDX-License-Identifier: MIT
// The fence between C and the decoders: no exception leaves.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "lib/file.hpp"
#include "m4client_media.h"
#include "media.hpp"
#include "protocol/codec.hpp"
#include "src/options.hpp"

using m4::client_media::Floats;
using m4::client_media::Media;
namespace client_media = m4::client_media;
using m4::client::check_output;
using m4::client::invalid;

namespace {

/// What the caller is told: as much as there is room for.
struct Reason {
    char* text;
    std::size_t bytes;

    int failed(int code, const char* words) const noexcept {
        if (text != nullptr && bytes != 0) {
            const std::size_t count = std::min(std::strlen(words), bytes - 1);
            std::memcpy(text, words, count);
            text[count] = '\0';
        }
        return code;
    }
};

void check_pointer(const void* pointer, const char* name) {
    if (pointer == nullptr) {
        throw invalid(std::string(name) + " is NULL");
    }
}

constexpr const char* kMemory = "the file in memory";

std::span<const std::byte> file_of(const void* file, std::size_t bytes,
                                   std::size_t most = PTRDIFF_MAX) {
    if (bytes != 0) {
        check_pointer(file, "file");
    }
    if (bytes > most) {
        throw client_media::TooLarge(kMemory, "has more than " + std::to_string(most) + " bytes");
    }
    return {static_cast<const std::byte*>(file), bytes};
}

Floats floats_of(std::uint32_t flags) {
    if ((flags & ~M4_MEDIA_MOTION) != 0) {
        throw invalid("flags has a bit this library does not know");
    }
    return flags == 0 ? Floats::features : Floats::motion;
}

void hand_over(const Media& decoded, m4_media* media) {
    const std::span<const std::byte> bytes = decoded.bytes;
    m4::UniqueFd fd =
        m4::protocol::make_sealed_memfd(std::span(&bytes, 1), m4::protocol::kMaxMediaBytes);
    m4_media known = {};
    known.kind = static_cast<std::uint32_t>(decoded.kind);
    known.in_fd = 1;
    known.bytes = decoded.bytes.size();
    known.width = decoded.width;
    known.height = decoded.height;
    known.stride = decoded.stride;
    known.chroma_offset = decoded.chroma_offset;
    known.samples = decoded.samples;
    known.channels = decoded.channels;
    known.rate_hz = decoded.rate_hz;
    known.fd = fd.release();
    m4::client::write_struct(media, known);
}

/// Decodes, seals and describes.
template <typename Decode>
int made(m4_media* media, Reason reason, Decode&& decode) noexcept {
    try {
        check_output(media, "m4_media");
        hand_over(std::forward<Decode>(decode)(), media);
        return M4_OK;
    } catch (const m4::client::Error& error) {
        return reason.failed(error.code(), error.what());
    } catch (const m4::client_media::TooLarge& error) {
        return reason.failed(M4_E_TOO_LARGE, error.what());
    } catch (const m4::firmware::OsError& error) {
        return reason.failed(M4_E_SYSTEM, error.what());
    } catch (const m4::firmware::Error& error) {
        return reason.failed(M4_E_INVALID, error.what());
    } catch (const std::bad_alloc&) {
        return reason.failed(M4_E_NO_MEMORY, "out of memory");
    } catch (const std::length_error& error) {
        return reason.failed(M4_E_TOO_LARGE, error.what());
    } catch (const std::system_error& error) {
        return reason.failed(M4_E_SYSTEM, error.what());
    } catch (const std::exception& error) {
        return reason.failed(M4_E_INTERNAL, error.what());
    } catch (...) {
        return reason.failed(M4_E_INTERNAL, "unknown exception");
    }
}

}  // namespace

int m4_media_load_image(const char* path, struct m4_media* media, char* reason,
                        size_t reason_bytes) {
    return made(media, {reason, reason_bytes}, [&] {
        check_pointer(path, "path");
        return client_media::load_image(path);
    });
}

int m4_media_decode_image(const void* file, size_t bytes, struct m4_media* media, char* reason,
                          size_t reason_bytes) {
    return made(media, {reason, reason_bytes}, [&] {
        return client_media::decode_image(file_of(file, bytes, client_media::kMaxImageFile),
                                          kMemory);
    });
}

int m4_media_load_audio(const char* path, struct m4_media* media, char* reason,
                        size_t reason_bytes) {
    return made(media, {reason, reason_bytes}, [&] {
        check_pointer(path, "path");
        return client_media::load_audio(path);
    });
}

int m4_media_decode_audio(const void* file, size_t bytes, struct m4_media* media, char* reason,
                          size_t reason_bytes) {
    return made(media, {reason, reason_bytes},
                [&] { return client_media::decode_audio(file_of(file, bytes), kMemory); });
}

int m4_media_load_tensor(const char* path, const char* tensor, uint32_t flags,
                         struct m4_media* media, char* reason, size_t reason_bytes) {
    return made(media, {reason, reason_bytes}, [&] {
        check_pointer(path, "path");
        check_pointer(tensor, "tensor");
        return client_media::load_tensor(path, tensor, floats_of(flags));
    });
}

int m4_media_decode_tensor(const void* file, size_t bytes, const char* tensor, uint32_t flags,
                           struct m4_media* media, char* reason, size_t reason_bytes) {
    return made(media, {reason, reason_bytes}, [&] {
        check_pointer(tensor, "tensor");
        return client_media::decode_tensor(file_of(file, bytes), kMemory, tensor, floats_of(flags));
    });
}

void m4_media_close(struct m4_media* media) {
    if (media == nullptr || media->size < sizeof(m4_media) ||
        media->size > m4::client::kMaxStructBytes || media->in_fd != 1) {
        return;
    }
    m4::UniqueFd(media->fd).reset();
    m4::client::write_struct(media, m4_media{});
}
