// SPDX-License-Identifier: MIT
#include <spng.h>

#include <memory>

#include "codecs.hpp"
#include "lib/error.hpp"

namespace m4::client_media {

namespace {

constexpr std::size_t kMaxChunk = 64UL << 20U;  // bytes of one, and of all that are kept

struct Deleter {
    void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};

void check(int error, const std::string& place) {
    if (error != 0) {
        throw firmware::Error(place, std::string("PNG cannot be decoded: ") + spng_strerror(error));
    }
}

}  // namespace

Media decode_png(std::span<const std::byte> file, const std::string& place) {
    const std::unique_ptr<spng_ctx, Deleter> owner(spng_ctx_new(0));
    spng_ctx* context = owner.get();
    if (context == nullptr) {
        throw std::bad_alloc();
    }
    check(spng_set_chunk_limits(context, kMaxChunk, kMaxChunk), place);
    check(spng_set_png_buffer(context, file.data(), file.size()), place);
    spng_ihdr header{};
    check(spng_get_ihdr(context, &header), place);
    const bool gray = header.color_type == SPNG_COLOR_TYPE_GRAYSCALE && header.bit_depth <= 8;
    Media media = image_of(gray ? Kind::gray8 : Kind::rgb8, header.width, header.height, place);
    const int format = gray ? SPNG_FMT_G8 : SPNG_FMT_RGB8;
    media.bytes.resize(std::size_t{media.stride} * media.height);
    std::size_t size = 0;
    check(spng_decoded_image_size(context, format, &size), place);
    if (size != media.bytes.size()) {
        throw firmware::Error(place, "PNG of an unexpected size in memory");
    }
    check(spng_decode_image(context, media.bytes.data(), size, format, 0), place);
    // Pixels may be whole where the file is not.
    check(spng_decode_chunks(context), place);
    return media;
}

}  // namespace m4::client_media
