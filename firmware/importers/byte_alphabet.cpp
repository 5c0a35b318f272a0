// SPDX-License-Identifier: MIT
#include "byte_alphabet.hpp"

namespace m4::firmware {

namespace {

constexpr unsigned kBytes = 256;

bool is_seen(unsigned byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

}  // namespace

std::vector<std::pair<std::uint8_t, std::uint32_t>> byte_characters() {
    std::vector<std::pair<std::uint8_t, std::uint32_t>> all;
    for (const bool seen : {true, false}) {
        std::uint32_t next = kBytes;
        for (unsigned byte = 0; byte < kBytes; ++byte) {
            if (is_seen(byte) == seen) {
                all.emplace_back(static_cast<std::uint8_t>(byte), seen ? byte : next++);
            }
        }
    }
    return all;
}

std::string utf8_of(std::uint32_t code) {
    if (code < 0x80) {
        return {static_cast<char>(code)};
    }
    return {static_cast<char>(0xc0U | code >> 6U), static_cast<char>(0x80U | (code & 0x3fU))};
}

}  // namespace m4::firmware
