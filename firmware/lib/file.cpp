// SPDX-License-Identifier: MIT
#include "file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace m4::firmware {

void UniqueFd::reset() noexcept {
    if (fd_ >= 0) {
        ::close(std::exchange(fd_, -1));
    }
}

UniqueFd open_directory(const std::string& path) {
    UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) {
        throw os_error(path, "open");
    }
    return folder;
}

UniqueFd open_regular(const UniqueFd& folder, const std::string& name, const std::string& place,
                      std::size_t& size_bytes) {
    UniqueFd file(
        ::openat(folder.get(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file) {
        if (errno == ELOOP) {
            throw Error(place, "is a symbolic link, which is not followed");
        }
        throw os_error(place, "open");
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) {
        throw os_error(place, "stat");
    }
    if (!S_ISREG(status.st_mode)) {
        throw Error(place, "is not a regular file");
    }
    size_bytes = static_cast<std::size_t>(status.st_size);
    return file;
}

void write_all(const UniqueFd& file, std::span<const std::byte> bytes, const std::string& place) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            throw os_error(place, "write");
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

void sync(const UniqueFd& file, const std::string& place) {
    if (::fsync(file.get()) != 0) {
        throw os_error(place, "sync");
    }
}

}  // namespace m4::firmware
