// SPDX-License-Identifier: MIT
#include "tokenizer_utf8.hpp"

#include <algorithm>
#include <utility>

#include "tokenizer.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

/// Length of the character a lead byte begins, and the range of its second
/// byte, which is where overlong forms and surrogates show.
struct Lead {
    std::size_t size = 0;  ///< 0: no lead byte
    unsigned char second_low = 0x80;
    unsigned char second_high = 0xbf;
};

Lead lead_of(unsigned char byte) {
    if (byte < 0x80) {
        return {1};
    }
    if (byte >= 0xc2 && byte <= 0xdf) {
        return {2};
    }
    if (byte >= 0xe0 && byte <= 0xef) {
        return {3, static_cast<unsigned char>(byte == 0xe0 ? 0xa0 : 0x80),
                static_cast<unsigned char>(byte == 0xed ? 0x9f : 0xbf)};
    }
    if (byte >= 0xf0 && byte <= 0xf4) {
        return {4, static_cast<unsigned char>(byte == 0xf0 ? 0x90 : 0x80),
                static_cast<unsigned char>(byte == 0xf4 ? 0x8f : 0xbf)};
    }
    return {};
}

}  // namespace

Utf8Step utf8_step(std::string_view bytes) {
    const auto lead = lead_of(static_cast<unsigned char>(bytes.front()));
    if (lead.size == 0) {
        return {Utf8Step::Kind::ill_formed, 1};
    }
    const std::size_t present = std::min(lead.size, bytes.size());
    for (std::size_t i = 1; i < present; ++i) {
        const auto byte = static_cast<unsigned char>(bytes[i]);
        const unsigned char low = i == 1 ? lead.second_low : 0x80;
        const unsigned char high = i == 1 ? lead.second_high : 0xbf;
        if (byte < low || byte > high) {
            return {Utf8Step::Kind::ill_formed, i};
        }
    }
    return {present == lead.size ? Utf8Step::Kind::character : Utf8Step::Kind::incomplete, present};
}

std::string Utf8Assembler::push(std::string_view bytes) {
    pending_ += bytes;
    std::string whole;
    std::string_view rest = pending_;
    while (!rest.empty()) {
        const auto step = utf8_step(rest);
        if (step.kind == Utf8Step::Kind::incomplete) {
            break;
        }
        whole += step.kind == Utf8Step::Kind::character ? rest.substr(0, step.size) : kReplacement;
        rest.remove_prefix(step.size);
    }
    pending_.erase(0, pending_.size() - rest.size());
    return whole;
}

std::string Utf8Assembler::finish() {
    const bool cut = !std::exchange(pending_, {}).empty();
    return cut ? std::string(kReplacement) : std::string{};
}

}  // namespace m4::firmware
