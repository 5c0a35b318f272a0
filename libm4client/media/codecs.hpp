// SPDX-License-Identifier: MIT
#pragma once

#include <span>

#include "media.hpp"

namespace m4::client_media {

[[nodiscard]] Media decode_png(std::span<const std::byte> file, const std::string& place);
[[nodiscard]] Media decode_jpeg(std::span<const std::byte> file, const std::string& place);

/// An image without its bytes. Throws TooLarge.
[[nodiscard]] Media image_of(Kind kind, std::uint64_t width, std::uint64_t height,
                             const std::string& place);

}  // namespace m4::client_media
