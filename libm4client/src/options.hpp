// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>

#include "error.hpp"

/// Structs that grow: the caller's `size` says which version of a struct it
/// was compiled with. A field added later must not land in what was padding
/// at the end of a released struct: callers may have left that unset.
namespace m4::client {

/// No struct of the API is near this; a larger size is an unset field.
inline constexpr std::size_t kMaxStructBytes = 4096;

/// Throws M4_E_INVALID unless `size` could be the sizeof of some version of T.
template <typename T>
void check_struct_size(std::size_t size, const char* name) {
    static_assert(std::is_standard_layout_v<T> && std::is_trivially_copyable_v<T>);
    static_assert(offsetof(T, size) == 0 && sizeof(T) <= kMaxStructBytes);
    // A whole multiple of the alignment never cuts a field in two.
    if (size < sizeof(std::size_t) || size > kMaxStructBytes || size % alignof(T) != 0) {
        throw invalid(std::string(name) + ".size is not set; use M4_INIT");
    }
}

/// The caller's options as this library knows them: absent fields are zero,
/// fields unknown here must be. `options` may be null: all defaults.
template <typename T>
[[nodiscard]] T read_options(const T* options, const char* name) {
    T known = {};
    known.size = sizeof(T);
    if (options == nullptr) {
        return known;
    }
    const std::size_t size = options->size;
    check_struct_size<T>(size, name);
    const auto* bytes = reinterpret_cast<const unsigned char*>(options);
    if (size > sizeof(T) && std::any_of(bytes + sizeof(T), bytes + size,
                                        [](unsigned char byte) { return byte != 0; })) {
        throw invalid(std::string(name) + " sets an option this library does not know");
    }
    std::memcpy(&known, bytes, std::min(size, sizeof(T)));
    known.size = sizeof(T);
    return known;
}

/// Fills the caller's struct up to its size; what this library does not know
/// becomes zero. `size` stays the caller's. Check the size before the work.
template <typename T>
void write_struct(T* out, const T& known) {
    const std::size_t size = out->size;
    auto* bytes = reinterpret_cast<unsigned char*>(out);
    std::memset(bytes, 0, size);
    std::memcpy(bytes, &known, std::min(size, sizeof(T)));
    out->size = size;
}

/// The check to make before the work that fills `out`.
template <typename T>
void check_output(const T* out, const char* name) {
    if (out == nullptr) {
        throw invalid(std::string(name) + " is NULL");
    }
    check_struct_size<T>(out->size, name);
}

}  // namespace m4::client
