// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

namespace m4::firmware {

/// A regular file mapped read-only, owned. Movable. The file must not shrink
/// while it is mapped: a read past a new end raises SIGBUS.
class MappedFile {
   public:
    explicit MappedFile(const std::filesystem::path& path);  ///< throws Error
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    ~MappedFile();

    [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }
    [[nodiscard]] const std::string& place() const { return place_; }  ///< for messages

   private:
    std::string place_;
    const std::byte* data_ = nullptr;
    std::size_t size_bytes_ = 0;
};

/// A small text file (a config) as a string; refuses one beyond `limit_bytes`.
[[nodiscard]] std::string read_small_file(const std::filesystem::path& path,
                                          std::size_t limit_bytes);

/// Whether something is at `path`; one that cannot be looked at is not there.
[[nodiscard]] bool is_there(const std::filesystem::path& path);

/// A name from a file, fit for a message: printable, quoted, at most 80 bytes.
[[nodiscard]] std::string shown(std::string_view name);

}  // namespace m4::firmware
