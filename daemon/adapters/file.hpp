// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "protocol/unique_fd.hpp"

namespace m4::adapters {

/// An adapter's bytes in a memfd of ours that nobody can change, mapped. Any thread.
class File {
   public:
    /// A copy. Throws std::system_error and std::length_error.
    explicit File(std::span<const std::byte> bytes);
    ~File();
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }
    [[nodiscard]] int fd() const { return fd_.get(); }

   private:
    UniqueFd fd_;
    std::span<const std::byte> bytes_;
};

}  // namespace m4::adapters
