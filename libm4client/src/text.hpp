// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "error.hpp"

namespace m4::client {

/// The longest beginning of at most max_bytes that cuts no UTF-8 character.
[[nodiscard]] inline std::string_view clip_utf8(std::string_view text, std::size_t max_bytes) {
    if (text.size() <= max_bytes) {
        return text;
    }
    std::size_t end = max_bytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U) {
        --end;
    }
    return text.substr(0, end);
}

/// Fills a fixed field, NUL-terminated, and never beyond a whole character.
template <std::size_t N>
void copy_text(char (&field)[N], std::string_view text) {
    const std::string_view fits = clip_utf8(text, N - 1);
    std::memset(field, 0, N);
    fits.copy(field, fits.size());
}

/// Text as the API takes it: a pointer and a length, or SIZE_MAX.
[[nodiscard]] inline std::string_view text_argument(const char* text, std::size_t bytes) {
    if (text == nullptr) {
        if (bytes != 0) {
            throw invalid("text is NULL");
        }
        return {};
    }
    return bytes == SIZE_MAX ? std::string_view(text) : std::string_view(text, bytes);
}

[[nodiscard]] inline std::span<const std::uint32_t> ids_argument(const std::uint32_t* ids,
                                                                 std::size_t count) {
    if (ids == nullptr && count != 0) {
        throw invalid("ids is NULL");
    }
    if (count > SIZE_MAX / sizeof(std::uint32_t)) {
        throw invalid("count is too large");
    }
    return {ids, count};
}

/// The flags of tokenising and appending.
inline void check_flags(std::uint32_t flags) {
    if ((flags & ~M4_ADD_SPECIAL) != 0) {
        throw invalid("flags has a bit this library does not know");
    }
}

}  // namespace m4::client
