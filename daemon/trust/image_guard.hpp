// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>

#include "trust/sigbus.hpp"

namespace m4::trust {

/// The image was taken back: nothing computed from it may be used. what() is a
/// sentence for clients.
class RevokedError : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

/// Whether a mapped image still holds. It is found lost where a read of it
/// faults (any thread; the read then gives zeros), or where somebody was told
/// so and says it here. For good: an image that was lost is not found again.
///
/// Who computes from the image calls check() when it is done and before it
/// uses the result.
class ImageGuard {
   public:
    /// Makes the sentence; any thread, only once it is lost.
    using Reason = std::function<std::string()>;

    /// `mapping` must outlive the guard. Throws what sigbus::watch throws.
    ImageGuard(std::span<const std::byte> mapping, Reason reason);
    ImageGuard(const ImageGuard&) = delete;
    ImageGuard& operator=(const ImageGuard&) = delete;
    ~ImageGuard();

    void revoke() noexcept { revoked_.store(true, std::memory_order_release); }
    [[nodiscard]] bool intact() const noexcept;
    [[nodiscard]] std::string reason() const { return reason_(); }
    /// Throws RevokedError where it is lost.
    void check() const;

   private:
    Reason reason_;
    sigbus::Range* range_;
    std::atomic<bool> revoked_{false};
};

}  // namespace m4::trust
