// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string_view>

namespace m4::firmware {

/// What stands at the beginning of some bytes.
struct Utf8Step {
    enum class Kind {
        character,   ///< a well-formed character of `size` bytes
        ill_formed,  ///< `size` bytes that no continuation can mend
        incomplete,  ///< all the bytes there are begin a character
    };
    Kind kind = Kind::character;
    std::size_t size = 0;
};

/// Looks at the first character of `bytes` (not empty), after table 3-7 of the
/// Unicode standard: no overlong forms, no surrogates, nothing past U+10FFFF.
/// An ill-formed size is the maximal subpart: what one U+FFFD stands for.
[[nodiscard]] Utf8Step utf8_step(std::string_view bytes);

}  // namespace m4::firmware
