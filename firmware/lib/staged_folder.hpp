// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <string>

#include "file.hpp"

namespace m4::firmware {

/// A folder written beside its final place and renamed into it, so that the
/// place holds either a whole image or what it held before. Unless commit()
/// succeeded, the destructor removes what was written.
class StagedFolder {
   public:
    /// Throws Error where `target` holds something that may not be replaced:
    /// an image without `replace`, or files that are not an image's.
    StagedFolder(const std::filesystem::path& target, bool replace);
    ~StagedFolder();
    StagedFolder(const StagedFolder&) = delete;
    StagedFolder& operator=(const StagedFolder&) = delete;

    /// Creates a file of exactly `size_bytes`; room for it is claimed at once,
    /// so that a full disk is known before the work is done.
    [[nodiscard]] UniqueFd create(const std::string& name, std::size_t size_bytes) const;
    /// How errors call a file of the folder: by its final path.
    [[nodiscard]] std::string place(const std::string& name) const;
    void commit();

   private:
    std::filesystem::path target_;
    std::filesystem::path staged_;
    bool replace_;
};

}  // namespace m4::firmware
