// SPDX-License-Identifier: MIT
#include "kv_sequence.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace m4::engine {

KvSequence::KvSequence(const KvSequence& other)
    : Sequence(other),
      pool_(other.pool_),
      capacity_(other.capacity_),
      memory_rows_(other.memory_rows_),
      memory_length_(other.memory_length_),
      length_(other.length_),
      pages_(other.pages_) {
    for (const std::uint32_t page : pages_) {
        pool_.share(page);
    }
}

KvSequence::~KvSequence() {
    for (const std::uint32_t page : pages_) {
        pool_.release(page);
    }
}

void KvSequence::rewind(std::uint32_t length) {
    if (length > length_) {
        throw std::invalid_argument("cannot rewind a sequence of " + std::to_string(length_) +
                                    " tokens to " + std::to_string(length));
    }
    length_ = length;
    trim();
}

void KvSequence::trim() {
    const std::uint32_t kept =
        std::max(pool_.pages_of(length_), memory_length_ == 0 ? 0 : memory_pages());
    while (pages_.size() > kept) {
        pool_.release(pages_.back());
        pages_.pop_back();
    }
}

std::uint32_t KvSequence::written_end(std::uint32_t count) const {
    return std::min(pool_.pages_of(length_ + count), static_cast<std::uint32_t>(pages_.size()));
}

/// At most: where all who hold a page write to it in one step, the last of them
/// keeps it.
std::uint32_t KvSequence::pages_needed(std::uint32_t count) const {
    if (count == 0) {
        return 0;
    }
    const auto held = static_cast<std::uint32_t>(pages_.size());
    std::uint32_t needed = std::max(pool_.pages_of(length_ + count), memory_pages()) - held;
    for (std::uint32_t i = length_ / pool_.page_positions(); i < written_end(count); ++i) {
        needed += pool_.shared(pages_[i]) ? 1U : 0U;
    }
    return needed;
}

bool KvSequence::last_page_shared() const {
    return memory_length_ != 0 || (!pages_.empty() && pool_.shared(pages_.back()));
}

void KvSequence::take_pages(std::uint32_t count, std::vector<PageCopy>& copies) {
    for (std::uint32_t i = length_ / pool_.page_positions(); i < written_end(count); ++i) {
        if (pool_.shared(pages_[i])) {
            const std::uint32_t own = pool_.take();
            copies.push_back({pages_[i], own});
            pool_.release(pages_[i]);
            pages_[i] = own;
        }
    }
    const std::uint32_t wanted = pool_.pages_of(length_ + count);
    while (pages_.size() < wanted) {
        pages_.push_back(pages_.empty() ? pool_.take() : pool_.take(pages_.back()));
    }
}

void KvSequence::take_memory() {
    while (pages_.size() < memory_pages()) {
        pages_.push_back(pages_.empty() ? pool_.take() : pool_.take(pages_.back()));
    }
}

std::unique_ptr<Sequence> KvSequence::clone() const {
    // Rows still to come would be written into pages of both.
    if (memory_length_ != 0 && memory_length_ != memory_rows_) {
        throw std::invalid_argument("cannot clone a sequence of " + std::to_string(memory_length_) +
                                    " of " + std::to_string(memory_rows_) + " rows of memory");
    }
    return std::unique_ptr<Sequence>(new KvSequence(*this));
}

}  // namespace m4::engine
