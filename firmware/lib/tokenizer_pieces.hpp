// SPDX-License-Identifier: MIT
#pragma once

#include <tokenizer_generated.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace m4::firmware {

/// Pieces that text can yield. The others (control, unknown, byte) have names
/// that only look like text.
[[nodiscard]] constexpr bool is_matchable(fb::PieceKind kind) {
    return kind == fb::PieceKind::normal || kind == fb::PieceKind::user_defined ||
           kind == fb::PieceKind::unused;
}

/// The value of a "<0xNN>" piece.
[[nodiscard]] std::optional<std::uint8_t> byte_of_piece(std::string_view text);

/// The section as a FlatBuffer of sound structure; what it says is not checked. Throws
/// Error naming `place`.
[[nodiscard]] const fb::Tokenizer& open_tokenizer(std::span<const std::byte> section,
                                                  const std::string& place);

/// A SentencePiece-style section, verified, read where it lies. Private to the tokenizer
/// and its importers. The bytes must outlive the object. Immutable.
class PieceTable {
   public:
    /// Throws Error naming `place` and the array that is wrong.
    PieceTable(std::span<const std::byte> section, const std::string& place);

    [[nodiscard]] const fb::Tokenizer& root() const { return *root_; }
    [[nodiscard]] std::uint32_t count() const { return count_; }
    [[nodiscard]] std::string_view text(std::uint32_t id) const {
        return {text_ + offsets_[id], offsets_[id + 1] - offsets_[id]};
    }
    [[nodiscard]] float score(std::uint32_t id) const { return scores_[id]; }
    [[nodiscard]] fb::PieceKind kind(std::uint32_t id) const { return kinds_[id]; }

    /// The matchable piece with this text.
    [[nodiscard]] std::optional<std::uint32_t> find(std::string_view text) const;
    /// Bytes of the longest user-defined piece that `text` begins with, or 0.
    [[nodiscard]] std::size_t user_defined_prefix(std::string_view text) const;
    /// Null where the model has no byte pieces; else 256 ids.
    [[nodiscard]] const std::uint32_t* byte_ids() const { return byte_ids_; }

   private:
    void check_arrays() const;
    void check_pieces() const;
    void check_sorted() const;
    void check_bytes() const;
    void check_special() const;
    void index_sorted();
    [[noreturn]] void fail(const std::string& reason) const;

    std::string place_;
    const fb::Tokenizer* root_ = nullptr;
    std::uint32_t count_ = 0;
    const char* text_ = nullptr;
    const std::uint32_t* offsets_ = nullptr;
    const float* scores_ = nullptr;
    const fb::PieceKind* kinds_ = nullptr;
    const std::uint32_t* sorted_ = nullptr;
    const std::uint32_t* byte_ids_ = nullptr;
    std::size_t longest_bytes_ = 0;
    /// sorted_[first_[b] .. first_[b + 1]) begin with byte b: takes eight steps
    /// off each search. User-defined pieces, which are few, in byte order.
    std::array<std::uint32_t, 257> first_{};
    std::vector<std::uint32_t> user_defined_;
};

}  // namespace m4::firmware
