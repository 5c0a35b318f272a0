// SPDX-License-Identifier: MIT
#include "trust/image_export.hpp"

#include <fcntl.h>
#include <linux/m4.h>
#include <m4/image.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <string>

#include "lib/error.hpp"

namespace m4::trust {

firmware::UniqueFd export_window(const std::filesystem::path& control_node, int image_fd,
                                 std::uint64_t offset, std::uint64_t bytes) {
    const std::string place = control_node.string();
    const firmware::UniqueFd control(::open(place.c_str(), O_RDONLY | O_CLOEXEC));
    if (!control) {
        throw firmware::os_error(place, "open");
    }
    const int version = ::ioctl(control.get(), M4_IOC_VERSION);
    if (version < 0) {
        throw firmware::os_error(place, "ask for the version");
    }
    if (version != M4_ABI_VERSION) {
        throw firmware::Error(place, "speaks version " + std::to_string(version) + ", not " +
                                         std::to_string(M4_ABI_VERSION));
    }
    m4_export request{};
    request.size = sizeof request;
    request.image_fd = image_fd;
    request.offset = M4_IMAGE_MANIFEST_SPAN + offset;  // as the node counts
    request.bytes = bytes;
    request.dmabuf_fd = -1;
    if (::ioctl(control.get(), M4_IOC_EXPORT, &request) != 0) {
        throw firmware::os_error(place, "export a window");
    }
    return firmware::UniqueFd(request.dmabuf_fd);
}

}  // namespace m4::trust
