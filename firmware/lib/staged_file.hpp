// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "file.hpp"

namespace m4::firmware {

/// A file written beside its final place and renamed into it, so that the
/// place holds either all of it or what it held before, whenever the power
/// goes. Unless commit() succeeded, the destructor removes what was written.
class StagedFile {
   public:
    /// Throws Error where `target` exists and `replace` is false, or where it
    /// is something else than a file.
    StagedFile(const std::filesystem::path& target, mode_t mode, bool replace);
    ~StagedFile();
    StagedFile(const StagedFile&) = delete;
    StagedFile& operator=(const StagedFile&) = delete;

    void write(std::span<const std::byte> bytes);
    void commit();
    /// How errors call it: by its final path.
    [[nodiscard]] const std::string& place() const { return place_; }

   private:
    std::string place_;
    std::string name_;
    std::string partial_;
    bool replace_;
    UniqueFd folder_;
    UniqueFd file_;
};

}  // namespace m4::firmware
