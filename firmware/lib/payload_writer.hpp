// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "builder.hpp"
#include "file.hpp"
#include "image.hpp"
#include "sha256.hpp"
#include "staged_folder.hpp"

namespace m4::firmware {

/// Writes a payload front to back into shards and hashes it on the way: holds
/// one chunk (2 MiB) at a time.
class PayloadWriter {
   public:
    PayloadWriter(const StagedFolder& folder, std::vector<Segment> segments, const Digest& salt,
                  const ImageBuilder::Progress& progress);

    void write(std::span<const std::byte> bytes);
    /// Zeros up to this byte of the payload.
    void pad_to(std::uint64_t offset);
    /// Pads and ends the last shard; the digest of every chunk.
    [[nodiscard]] std::vector<Digest> finish();

    [[nodiscard]] std::uint64_t position() const { return position_; }

   private:
    void flush_chunk();
    void end_shard();

    const StagedFolder& folder_;
    std::vector<Segment> segments_;
    Digest salt_;
    const ImageBuilder::Progress& progress_;
    Sha256 sha_;
    std::vector<std::byte> chunk_;
    std::vector<Digest> leaves_;
    std::uint64_t position_ = 0;
    std::size_t shard_ = 0;
    UniqueFd file_;
};

}  // namespace m4::firmware
