// SPDX-License-Identifier: MIT
#include "small_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "staged_file.hpp"

namespace m4::firmware {

namespace {

TooLarge too_large(const std::string& place, std::size_t most) {
    return {place, "has more than " + std::to_string(most) + " bytes"};
}

std::vector<std::byte> read_to_end(const UniqueFd& file, const std::string& place,
                                   std::size_t most) {
    constexpr std::size_t kFirst = 1UL << 20;  // of a key no copy stays behind
    std::vector<std::byte> bytes(std::min(most + 1, kFirst));
    std::size_t done = 0;
    while (done <= most) {
        if (done == bytes.size()) {
            bytes.resize(std::min(most + 1, done * 2));
        }
        const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            throw os_error(place, "read");
        }
        if (got == 0) {
            bytes.resize(done);
            return bytes;
        }
        done += static_cast<std::size_t>(got);
    }
    throw too_large(place, most);
}

}  // namespace

std::vector<std::byte> read_small_file(const std::string& path, std::size_t most) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
        throw os_error(path, "open");
    }
    return read_to_end(file, path, most);
}

std::optional<std::vector<std::byte>> read_small_file_at(const UniqueFd& folder,
                                                         const std::string& name,
                                                         const std::string& place,
                                                         std::size_t most) {
    struct stat status {};
    if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 &&
        errno == ENOENT) {
        return std::nullopt;
    }
    std::size_t size_bytes = 0;
    const UniqueFd file = open_regular(folder, name, place, size_bytes);
    if (size_bytes > most) {
        throw too_large(place, most);
    }
    return read_to_end(file, place, most);
}

void write_small_file(const std::string& folder, const std::string& name,
                      std::span<const std::byte> bytes, mode_t mode, bool replace) {
    StagedFile file(std::filesystem::path(folder) / name, mode, replace);
    file.write(bytes);
    file.commit();
}

}  // namespace m4::firmware
