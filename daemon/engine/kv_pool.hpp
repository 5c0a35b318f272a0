// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <set>
#include <vector>

namespace m4::engine {

/// Pages of the KV pool, counted by who holds them. A page has room for some
/// positions in all layers, keys and values (shaders/include/kv.glsl). Its bytes are not cleared: a
/// kernel reads the positions up to its row's own, and each of these was
/// written by the sequence itself, or by one it is a clone of, since a sequence
/// grows without gaps. So no sequence ever sees what another left behind.
/// Engine thread only.
class KvPool {
   public:
    /// Units of 16 bytes. `position_units`: what one position takes in all
    /// layers, keys and values; `page_positions`: at least 1.
    KvPool(std::uint64_t pool_units, std::uint32_t position_units, std::uint32_t page_positions);

    [[nodiscard]] std::uint32_t page_positions() const { return page_positions_; }
    [[nodiscard]] std::uint64_t page_units() const { return page_units_; }
    /// In all.
    [[nodiscard]] std::uint32_t pages() const {
        return static_cast<std::uint32_t>(holders_.size());
    }
    [[nodiscard]] std::uint32_t free() const { return static_cast<std::uint32_t>(free_.size()); }
    [[nodiscard]] std::uint32_t used() const { return pages() - free(); }
    /// Of the used, those held more than once.
    [[nodiscard]] std::uint32_t shared_pages() const { return shared_; }
    /// Pages that so many positions take.
    [[nodiscard]] std::uint32_t pages_of(std::uint32_t positions) const {
        return positions / page_positions_ + (positions % page_positions_ != 0 ? 1U : 0U);
    }

    /// A page, held once: the one behind `before` if it is free, as kernels read
    /// neighbours faster, else the first. Throws std::logic_error where none is
    /// free.
    [[nodiscard]] std::uint32_t take(std::uint32_t before);
    [[nodiscard]] std::uint32_t take() { return take(pages()); }
    /// Held once more.
    void share(std::uint32_t page);
    /// Held once less; free when by nobody.
    void release(std::uint32_t page);
    [[nodiscard]] bool shared(std::uint32_t page) const { return holders_[page] > 1; }

   private:
    std::uint32_t page_positions_;
    std::uint64_t page_units_;
    std::vector<std::uint32_t> holders_;  // by page
    std::set<std::uint32_t> free_;
    std::uint32_t shared_ = 0;
};

}  // namespace m4::engine
