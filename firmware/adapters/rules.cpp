// SPDX-License-Identifier: MIT
#include "rules.hpp"

#include <m4/manifest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "lib/error.hpp"
#include "lib/places.hpp"
#include "lib/tokenizer_utf8.hpp"
#include "limits.hpp"

namespace m4::firmware {

namespace {

constexpr const char* kPlace = "adapter";

bool is_letter_or_digit(char ch) {
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
}

/// Fit to be a file's name anywhere.
bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= kMaxAdapterNameBytes &&
           is_letter_or_digit(text.front()) && std::all_of(text.begin(), text.end(), [](char ch) {
               return is_letter_or_digit(ch) || ch == '.' || ch == '_' || ch == '-';
           });
}

void require_text(std::string_view text, std::size_t most, const char* what) {
    if (text.size() > most) {
        throw Error(kPlace, std::to_string(text.size()) + " bytes of " + what + ", more than " +
                                std::to_string(most));
    }
    if (!is_printable(text)) {
        throw Error(kPlace, std::string(what) + " is not printable ASCII");
    }
}

bool is_clean_utf8(std::string_view text) {
    while (!text.empty()) {
        const auto step = utf8_step(text);
        const auto first = static_cast<unsigned char>(text.front());
        const bool control = (first < ' ' && first != '\n' && first != '\t') || first == 0x7F;
        if (step.kind != Utf8Step::Kind::character || control) {
            return false;
        }
        text.remove_prefix(step.size);
    }
    return true;
}

void check_template(std::string_view text) {
    constexpr std::string_view kHole = "{prompt}";
    if (text.empty()) {
        return;
    }
    if (text.size() > kMaxTemplateBytes) {
        throw Error(kPlace, std::to_string(text.size()) + " bytes of prompt template, more than " +
                                std::to_string(kMaxTemplateBytes));
    }
    if (!is_clean_utf8(text)) {
        throw Error(kPlace, "the prompt template is not UTF-8, or has control characters");
    }
    const auto at = text.find(kHole);
    if (at == std::string_view::npos || text.find(kHole, at + 1) != std::string_view::npos) {
        throw Error(kPlace, "the prompt template does not have {prompt} exactly once");
    }
}

/// The first element whose exponent is all ones, or the count of them.
template <typename Bits>
std::size_t first_not_finite(std::span<const std::byte> bytes, Bits exponent) {
    const std::size_t count = bytes.size() / sizeof(Bits);
    const auto at = [&](std::size_t index) {
        Bits bits = 0;
        std::memcpy(&bits, bytes.data() + index * sizeof(Bits), sizeof(Bits));
        return bits;
    };
    constexpr std::size_t kBatch = 4096;  // a loop without a way out, which becomes vectors
    for (std::size_t first = 0; first < count; first += kBatch) {
        const std::size_t end = std::min(count, first + kBatch);
        unsigned found = 0;
        for (std::size_t i = first; i < end; ++i) {
            found |= static_cast<unsigned>((at(i) & exponent) == exponent);
        }
        if (found != 0) {
            while ((at(first) & exponent) != exponent) {
                ++first;
            }
            return first;
        }
    }
    return count;
}

}  // namespace

bool is_set(const Digest& digest) {
    return std::any_of(digest.begin(), digest.end(), [](std::uint8_t byte) { return byte != 0; });
}

std::uint64_t data_bytes(const Adapter& adapter) {
    std::uint64_t bytes = 0;
    for (const LowRankPair& pair : adapter.pairs) {
        bytes += pair.a.size() + pair.b.size();
    }
    if (adapter.head) {
        for (const auto& tensor : adapter.head->bytes) {
            bytes += tensor.size();
        }
    }
    return bytes;
}

void check_texts(const Adapter& adapter) {
    if (!is_name(adapter.name)) {
        throw Error(kPlace, "its name is not [A-Za-z0-9][A-Za-z0-9._-]*, at most 64 bytes");
    }
    require_text(adapter.task, kMaxAdapterNameBytes, "task");
    require_text(adapter.base_name, kMaxBaseNameBytes, "the base's name");
    require_text(adapter.architecture, kMaxAdapterNameBytes, "architecture");
    require_text(adapter.source, kMaxAdapterNameBytes, "source");
    check_template(adapter.prompt_template);
    if (adapter.pairs.empty() && !adapter.head) {
        throw Error(kPlace, "holds neither a pair nor a head");
    }
}

void check_pair(const LowRankPair& pair, const std::string& place) {
    if (pair.rows == 0 || pair.columns == 0 || pair.rows > M4_IMAGE_DIM_MAX ||
        pair.columns > M4_IMAGE_DIM_MAX) {
        throw Error(place, "a matrix of " + std::to_string(pair.rows) + " x " +
                               std::to_string(pair.columns) + " is not 1 to 2^31 a side");
    }
    if (pair.rank == 0 || pair.rank > kMaxRank) {
        throw Error(place, "rank " + std::to_string(pair.rank) + " is not 1 to " +
                               std::to_string(kMaxRank));
    }
    if (pair.rank > std::min(pair.rows, pair.columns)) {
        throw Error(place, "rank " + std::to_string(pair.rank) + " of a matrix of " +
                               std::to_string(pair.rows) + " x " + std::to_string(pair.columns));
    }
    if (!std::isfinite(pair.scale)) {
        throw Error(place, "its scale is not finite");
    }
}

std::uint64_t checked_head_bytes(const Tensor& tensor, const std::string& place) {
    std::array<__u64, M4_IMAGE_RANK_MAX> shape{};
    std::copy(tensor.shape.begin(), tensor.shape.end(), shape.begin());
    const std::uint64_t bytes =
        m4_manifest_tensor_bytes(static_cast<__u32>(tensor.dtype),
                                 static_cast<__u32>(tensor.layout), tensor.rank, shape.data());
    if (bytes == 0) {
        throw Error(place, "type, layout and shape do not go together");
    }
    return bytes;
}

void require_finite(std::span<const std::byte> bytes, m4_dtype dtype, const std::string& place) {
    const std::size_t at = dtype == M4_DTYPE_F16
                               ? first_not_finite<std::uint16_t>(bytes, 0x7C00)
                               : first_not_finite<std::uint32_t>(bytes, 0x7F80'0000);
    if (at < bytes.size() / element_bytes(dtype)) {
        throw Error(place, "element " + std::to_string(at) + " is not finite");
    }
}

}  // namespace m4::firmware
