// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace m4::firmware {

class MergeTable;

/// `text` composed (NFC) and in lower case. Bytes that are not UTF-8 stay as they are.
[[nodiscard]] std::string clip_normal(std::string_view text);

/// Cuts the next word off `rest`; empty: there is none. A word is the end of a
/// contraction ('s 't 're 've 'm 'll 'd), letters, one number, or others up to white space.
[[nodiscard]] std::string_view next_clip_word(std::string_view& rest);

/// Appends the ids of `text`: byte pairs of each word, merged (Radford et al.,
/// arXiv 2103.00020). Any bytes are accepted. n bytes take O(n log n).
void append_clip_ids(const MergeTable& table, std::string_view text,
                     std::vector<std::uint32_t>& ids);

}  // namespace m4::firmware
