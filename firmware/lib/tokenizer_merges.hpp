// SPDX-License-Identifier: MIT
#pragma once

#include <tokenizer_generated.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace m4::firmware {

/// A section of byte pieces and merges (model clip_bpe), verified, read where it
/// lies. Private to the tokenizer and its importers. The bytes must outlive the
/// object. Immutable.
class MergeTable {
   public:
    /// Throws Error naming `place` and the array that is wrong.
    MergeTable(std::span<const std::byte> section, const std::string& place);

    [[nodiscard]] const fb::Tokenizer& root() const { return *root_; }
    [[nodiscard]] std::uint32_t count() const { return root_->kinds()->size(); }
    /// Bytes, not escaped.
    [[nodiscard]] std::string_view text(std::uint32_t id) const;
    [[nodiscard]] fb::PieceKind kind(std::uint32_t id) const { return (*root_->kinds())[id]; }

    struct Found {
        std::uint32_t rank = 0;  ///< the lowest merges first
        std::uint32_t result = 0;
    };
    [[nodiscard]] std::optional<Found> find(std::uint32_t left, std::uint32_t right) const;
    [[nodiscard]] std::uint32_t byte_id(std::uint8_t byte, bool ends_word) const {
        return (*root_->byte_ids())[byte + (ends_word ? 256U : 0U)];
    }

   private:
    void check_arrays() const;
    void check_pieces() const;
    void check_bytes() const;
    void check_merges() const;
    void check_special() const;
    [[noreturn]] void fail(const std::string& reason) const;

    std::string place_;
    const fb::Tokenizer* root_ = nullptr;
};

}  // namespace m4::firmware
