// SPDX-License-Identifier: MIT
#include "kv_sequence.hpp"

#include <stdexcept>
#include <string>

namespace m4::engine {

KvSequence::KvSequence(const KvSequence& other)
    : Sequence(other),
      pool_(other.pool_),
      capacity_(other.capacity_),
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
    const std::uint32_t kept = pool_.pages_of(length_);
    while (pages_.size() > kept) {
        pool_.release(pages_.back());
        pages_.pop_back();
    }
}

/// At most: where all who hold a page write to it in one step, the last of them
/// keeps it.
std::uint32_t KvSequence::pages_needed(std::uint32_t count) const {
    if (count == 0) {
        return 0;
    }
    const auto held = static_cast<std::uint32_t>(pages_.size());
    const bool appends_to_page = length_ % pool_.page_positions() != 0;
    return pool_.pages_of(length_ + count) - held +
           (appends_to_page && last_page_shared() ? 1U : 0U);
}

bool KvSequence::last_page_shared() const {
    return !pages_.empty() && pool_.shared(pages_.back());
}

void KvSequence::take_pages(std::uint32_t count, std::vector<PageCopy>& copies) {
    if (count != 0 && length_ % pool_.page_positions() != 0 && last_page_shared()) {
        const std::uint32_t own = pool_.take();
        copies.push_back({pages_.back(), own});
        pool_.release(pages_.back());
        pages_.back() = own;
    }
    const std::uint32_t wanted = pool_.pages_of(length_ + count);
    while (pages_.size() < wanted) {
        pages_.push_back(pages_.empty() ? pool_.take() : pool_.take(pages_.back()));
    }
}

std::unique_ptr<Sequence> KvSequence::clone() const {
    return std::unique_ptr<Sequence>(new KvSequence(*this));
}

}  // namespace m4::engine
