// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace m4::firmware {

/// SentencePiece-style BPE with byte fallback (Kudo & Richardson 2018,
/// arXiv 1808.06226) over a tokeniser section of an image. Reads the section
/// where it lies: the bytes must outlive the object. Const methods are safe
/// from any thread.
class Tokenizer {
   public:
    /// Verifies the section; throws Error naming `place`.
    Tokenizer(std::span<const std::byte> section, const std::string& place);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    /// Ids of `text`. Any bytes are accepted: what is not UTF-8 goes through
    /// the byte pieces. With `add_special`, BOS (and EOS) are added where the
    /// model says so. Text never yields control pieces. A section that is only decoded
    /// gives none.
    [[nodiscard]] std::vector<std::uint32_t> encode(std::string_view text, bool add_special) const;

    /// The bytes a token contributes to running text, given whether it is the
    /// first of its text (whose dummy blank is dropped). Control tokens give
    /// nothing. May end inside a UTF-8 character: see Utf8Assembler.
    [[nodiscard]] std::string piece(std::uint32_t id, bool first) const;

    /// Text of a sequence that begins a document.
    [[nodiscard]] std::string decode(std::span<const std::uint32_t> ids) const;

    [[nodiscard]] std::uint32_t vocabulary() const;
    [[nodiscard]] bool is_control(std::uint32_t id) const;
    [[nodiscard]] std::int32_t bos_id() const;  ///< -1: none
    [[nodiscard]] std::int32_t eos_id() const;  ///< -1: none
    [[nodiscard]] bool add_bos() const;

   private:
    struct Impl;
    std::unique_ptr<const Impl> impl_;
};

/// Turns pieces into whole UTF-8 characters for a stream: push() returns what
/// is complete and keeps a partial character back; finish() returns what is
/// left, with U+FFFD for a character that never ended or never was valid.
class Utf8Assembler {
   public:
    [[nodiscard]] std::string push(std::string_view bytes);
    [[nodiscard]] std::string finish();

   private:
    std::string pending_;
};

}  // namespace m4::firmware
