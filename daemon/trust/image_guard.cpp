// SPDX-License-Identifier: MIT
#include "trust/image_guard.hpp"

#include <utility>

namespace m4::trust {

ImageGuard::ImageGuard(std::span<const std::byte> mapping, Reason reason)
    : reason_(std::move(reason)), range_(sigbus::watch(mapping.data(), mapping.size())) {}

ImageGuard::~ImageGuard() {
    sigbus::unwatch(range_);
}

bool ImageGuard::intact() const noexcept {
    return !revoked_.load(std::memory_order_acquire) &&
           !sigbus::lost(range_).load(std::memory_order_acquire);
}

void ImageGuard::check() const {
    if (!intact()) {
        throw RevokedError(reason_());
    }
}

}  // namespace m4::trust
