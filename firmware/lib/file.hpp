// SPDX-License-Identifier: MIT
#pragma once

#include <cerrno>
#include <cstddef>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include "error.hpp"

namespace m4::firmware {

/// A file descriptor and its owner.
class UniqueFd {
   public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) noexcept : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;
    ~UniqueFd() { reset(); }

    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    void reset() noexcept;

   private:
    int fd_ = -1;
};

/// What the system refused.
class OsError : public Error {
   public:
    using Error::Error;
};

/// "<place>: cannot <verb>: <text of errno_value>".
[[nodiscard]] inline OsError os_error(const std::string& place, const char* verb,
                                      int errno_value = errno) {
    return {place,
            "cannot " + std::string(verb) + ": " + std::generic_category().message(errno_value)};
}

/// A folder, for openat() and fsync().
[[nodiscard]] UniqueFd open_directory(const std::string& path);

/// A regular file of a folder, for reading: no link is followed and nothing
/// blocks. *size_bytes: its size now.
[[nodiscard]] UniqueFd open_regular(const UniqueFd& folder, const std::string& name,
                                    const std::string& place, std::size_t& size_bytes);

void write_all(const UniqueFd& file, std::span<const std::byte> bytes, const std::string& place);
void sync(const UniqueFd& file, const std::string& place);

}  // namespace m4::firmware
