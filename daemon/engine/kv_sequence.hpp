// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine.hpp"
#include "kv_pool.hpp"

namespace m4::engine {

/// What must be in `to` before anything is written there: all of page `from`.
struct PageCopy {
    std::uint32_t from = 0;
    std::uint32_t to = 0;
};

/// A sequence as pages of a pool: page i holds positions [i, i + 1) times the
/// page's. Pages are held for its length and no further, save within a step.
///
/// A page is written by a sequence that alone holds it. Clones share pages; who
/// appends to a shared page takes one of its own in its place first, and the
/// step copies it.
///
/// A decoder's sequence also has rows of memory. They lie in the pages at their own
/// positions, as tokens do in other layers; all their pages are taken before the first
/// of them and held as long as the sequence.
class KvSequence : public Sequence {
   public:
    /// `pool` outlives it. `memory_rows`: of a decoder, at least `capacity`.
    KvSequence(KvPool& pool, std::uint32_t capacity, std::uint32_t memory_rows = 0)
        : pool_(pool), capacity_(capacity), memory_rows_(memory_rows) {}
    ~KvSequence() override;
    KvSequence& operator=(const KvSequence&) = delete;

    [[nodiscard]] std::uint32_t capacity() const override { return capacity_; }
    [[nodiscard]] std::uint32_t length() const override { return length_; }
    void rewind(std::uint32_t length) override;
    [[nodiscard]] std::uint32_t pages_needed(std::uint32_t count) const override;
    [[nodiscard]] bool last_page_shared() const override;
    [[nodiscard]] std::unique_ptr<Sequence> clone() const override;

    [[nodiscard]] const KvPool& pool() const { return pool_; }
    /// The pages, in order of positions.
    [[nodiscard]] std::span<const std::uint32_t> pages() const { return pages_; }

    /// Take the pages that `count` more tokens need, of which the pool has
    /// pages_needed(count) at least. What to copy first is appended to `copies`.
    void take_pages(std::uint32_t count, std::vector<PageCopy>& copies);
    /// Give back what take_pages() took and grow() did not claim.
    void trim();
    /// The keys and values of `count` more tokens are there.
    void grow(std::uint32_t count) { length_ += count; }

    /// Rows of memory that are there.
    [[nodiscard]] std::uint32_t memory_length() const { return memory_length_; }
    /// Take the pages of all memory, of which the pool has pages_needed(1) at least.
    void take_memory();
    /// The keys and values of `count` more rows of it are there.
    void remember(std::uint32_t count) { memory_length_ += count; }

   protected:
    /// A clone.
    KvSequence(const KvSequence& other);

   private:
    /// Pages that are held without a token.
    [[nodiscard]] std::uint32_t memory_pages() const { return pool_.pages_of(memory_rows_); }
    /// The end of the pages that are there and written by `count` more tokens; their
    /// begin is length() / page_positions().
    [[nodiscard]] std::uint32_t written_end(std::uint32_t count) const;

    KvPool& pool_;
    std::uint32_t capacity_;
    std::uint32_t memory_rows_;
    std::uint32_t memory_length_ = 0;
    std::uint32_t length_ = 0;
    std::vector<std::uint32_t> pages_;
};

}  // namespace m4::engine
