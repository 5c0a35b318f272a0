// SPDX-License-Identifier: MIT
#pragma once

#include <tokenizer_generated.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace m4::firmware {

/// A section of byte pieces to be decoded only (model byte_pieces), verified, read where
/// it lies. Private to the tokenizer. The bytes must outlive the object. Immutable.
class ByteTable {
   public:
    /// Throws Error naming `place`.
    ByteTable(std::span<const std::byte> section, const std::string& place);

    [[nodiscard]] const fb::Tokenizer& root() const { return *root_; }
    [[nodiscard]] std::uint32_t count() const { return root_->kinds()->size(); }
    [[nodiscard]] std::string_view text(std::uint32_t id) const;
    [[nodiscard]] fb::PieceKind kind(std::uint32_t id) const { return (*root_->kinds())[id]; }

   private:
    const fb::Tokenizer* root_ = nullptr;
};

}  // namespace m4::firmware
