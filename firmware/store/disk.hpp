// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

#include "lib/file.hpp"

namespace m4::store {

/// The changes that a store is made of, each told to an observer before it is
/// made: so a test sees their order, and can end the process between any two.
/// Every call throws firmware::Error naming the path.
class Disk {
   public:
    using Observer =
        std::function<void(std::string_view change, const std::filesystem::path& path)>;

    Disk() = default;
    explicit Disk(Observer observer) : observer_(std::move(observer)) {}

    /// Made where it is absent; true: it was.
    bool make_folder(const std::filesystem::path& path) const;
    /// A new file with room for `size_bytes`.
    [[nodiscard]] firmware::UniqueFd create_file(const std::filesystem::path& path,
                                                 std::size_t size_bytes) const;
    void write(const firmware::UniqueFd& file, std::span<const std::byte> bytes,
               const std::filesystem::path& path) const;
    /// To the disk, then out of the page cache.
    void sync_file(const firmware::UniqueFd& file, const std::filesystem::path& path) const;
    void sync_folder(const std::filesystem::path& path) const;

    /// Refuses where `to` exists.
    void rename(const std::filesystem::path& from, const std::filesystem::path& to) const;
    /// Each becomes the other, at once; both exist.
    void exchange(const std::filesystem::path& from, const std::filesystem::path& to) const;
    /// `link` names `target` from now on, whatever link it was before.
    void point_link(const std::filesystem::path& link, const std::filesystem::path& target) const;
    void make_link(const std::filesystem::path& link, const std::filesystem::path& target) const;
    void remove(const std::filesystem::path& path) const;  ///< with all it holds
    /// A small file, whole or as it was.
    void replace_file(const std::filesystem::path& path, std::span<const std::byte> bytes) const;

   private:
    void tell(std::string_view change, const std::filesystem::path& path) const;

    Observer observer_;
};

}  // namespace m4::store
