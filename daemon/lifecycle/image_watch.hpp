// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>

#include "ipc/event.hpp"
#include "lib/file.hpp"
#include "trust/kernel_image.hpp"

namespace m4::lifecycle {

/// Waits for the kernel to say that the image we hold was revoked, or that a
/// newer one is ready. sysfs alone: the service has a network namespace of its
/// own, where no uevent arrives. Loop thread only.
class ImageWatch {
   public:
    struct Events {
        std::function<void()> on_revoked;  ///< once
        std::function<void()> on_newer;    ///< once for each newer generation
    };

    /// `loop`, `image` and `device_fd`, its node's descriptor, must outlive it.
    /// Where sysfs cannot be watched a line is logged and nothing is watched.
    ImageWatch(sd_event* loop, const trust::KernelImage& image, int device_fd, Events events);
    ImageWatch(const ImageWatch&) = delete;
    ImageWatch& operator=(const ImageWatch&) = delete;
    ~ImageWatch() = default;

    /// Looks now; what changed before the watch began is found so.
    void look();

   private:
    void start(sd_event* loop);

    const trust::KernelImage* image_;
    int device_fd_;
    Events events_;
    firmware::UniqueFd state_;
    ipc::EventSource source_;  ///< before state_ in destruction
    bool revoked_ = false;
    std::uint64_t told_ = 0;  ///< the newer generation that was told last
};

}  // namespace m4::lifecycle
