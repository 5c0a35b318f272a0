// SPDX-License-Identifier: MIT
#include <turbojpeg.h>

#include <memory>
#include <new>
#include <type_traits>

#include "codecs.hpp"
#include "lib/error.hpp"

namespace m4::client_media {

namespace {

struct Deleter {
    void operator()(void* handle) const { (void)tjDestroy(handle); }
};

}  // namespace

Media decode_jpeg(std::span<const std::byte> file, const std::string& place) {
    const std::unique_ptr<std::remove_pointer_t<tjhandle>, Deleter> handle(tjInitDecompress());
    if (handle == nullptr) {
        throw std::bad_alloc();
    }
    const auto check = [&](int result) {
        if (result != 0) {
            throw firmware::Error(
                place, std::string("JPEG cannot be decoded: ") + tjGetErrorStr2(handle.get()));
        }
    };
    const auto* data = reinterpret_cast<const unsigned char*>(file.data());
    int width = 0;
    int height = 0;
    int subsampling = 0;
    int colours = 0;
    check(tjDecompressHeader3(handle.get(), data, file.size(), &width, &height, &subsampling,
                              &colours));
    const bool gray = colours == TJCS_GRAY;
    Media media = image_of(gray ? Kind::gray8 : Kind::rgb8, static_cast<std::uint64_t>(width),
                           static_cast<std::uint64_t>(height), place);
    media.bytes.resize(std::size_t{media.stride} * media.height);
    // What is cut short or damaged would be decoded to gray, with a warning.
    check(tjDecompress2(handle.get(), data, file.size(),
                        reinterpret_cast<unsigned char*>(media.bytes.data()), width, 0, height,
                        gray ? TJPF_GRAY : TJPF_RGB, TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS));
    return media;
}

}  // namespace m4::client_media
