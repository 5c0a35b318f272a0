// SPDX-License-Identifier: MIT
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "file.hpp"

namespace m4::firmware {

/// All of a file or pipe of at most `most` bytes, following links: what a user
/// names on a command line.
[[nodiscard]] std::vector<std::byte> read_small_file(const std::string& path, std::size_t most);

/// All of a regular file of a folder, following none; nothing where it is
/// absent. More than `most` bytes are an error.
[[nodiscard]] std::optional<std::vector<std::byte>> read_small_file_at(const UniqueFd& folder,
                                                                       const std::string& name,
                                                                       const std::string& place,
                                                                       std::size_t most);

/// A file that holds either all of `bytes` or what it held before, whenever
/// the power goes: written beside its place, synced, renamed, and the folder
/// synced. Without `replace` a file that exists is an error.
void write_small_file(const std::string& folder, const std::string& name,
                      std::span<const std::byte> bytes, mode_t mode, bool replace);

}  // namespace m4::firmware
