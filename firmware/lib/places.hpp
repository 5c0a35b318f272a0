// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "error.hpp"

/// How places inside an image are written, so that an error of the decoder and
/// one of the verifier name the same thing alike.
namespace m4::firmware {

/// Names reach errors before they are checked, and logs and terminals after.
inline bool is_printable(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char ch) { return ch >= ' ' && ch <= '~'; });
}

inline std::string named(const char* what, std::string_view name, std::size_t index) {
    return !name.empty() && is_printable(name) ? std::string(name)
                                               : what + (" " + std::to_string(index));
}

inline std::string part_place(std::string_view name, std::size_t index) {
    const std::string text = named("part", name, index);
    return text == name ? "part " + text : text;
}

inline std::string program_place(std::string_view part, std::string_view name, std::size_t index) {
    return std::string(part) + ": " + named("program", name, index);
}

inline std::string op_place(std::string_view program, std::size_t index, std::string_view name) {
    return std::string(program) + ": op " + std::to_string(index) + " (" + std::string(name) + ")";
}

/// The same error, one place further out: "outer: place: reason".
inline Error under(std::string_view outer, const Error& inner) {
    const std::string_view text = inner.what();
    return {std::string(outer) + ": " + inner.place(),
            std::string(text.substr(inner.place().size() + 2))};
}

}  // namespace m4::firmware
