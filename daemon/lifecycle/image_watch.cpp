// SPDX-License-Identifier: MIT
#include "lifecycle/image_watch.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <exception>
#include <utility>

namespace m4::lifecycle {

ImageWatch::ImageWatch(sd_event* loop, const trust::KernelImage& image, int device_fd,
                       Events events)
    : image_(&image), device_fd_(device_fd), events_(std::move(events)) {
    try {
        start(loop);
    } catch (const std::exception& error) {
        observe::log(observe::Level::warning,
                     "changes of the image will not be noticed: cannot watch %s: %s",
                     image.state_file().c_str(), error.what());
    }
}

void ImageWatch::start(sd_event* loop) {
    const std::string file = image_->state_file().string();
    state_ = firmware::UniqueFd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!state_) {
        throw firmware::os_error(file, "open");
    }
    const auto on_change = [](sd_event_source* source, int, std::uint32_t, void* data) {
        return ipc::guarded(source, [&] { static_cast<ImageWatch*>(data)->look(); });
    };
    // A change shows as EPOLLPRI and EPOLLERR until the file is read again.
    source_ = ipc::add_io(loop, state_.get(), EPOLLPRI, on_change, this);
}

void ImageWatch::look() {
    std::array<char, 64> ignored{};
    (void)!::pread(state_.get(), ignored.data(), ignored.size(), 0);
    if (!revoked_ && trust::mapping_refused(device_fd_)) {
        revoked_ = true;
        events_.on_revoked();
    }
    const trust::CurrentImage current = image_->current();
    if (judge(*image_, current) == trust::Change::newer && current.generation != told_) {
        told_ = current.generation;
        events_.on_newer();
    }
}

}  // namespace m4::lifecycle
