// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>

#include "lib/file.hpp"

namespace m4::trust {

/// A dma-buf of bytes [offset, offset + bytes) of the payload that `image_fd`,
/// a descriptor of the image's node, shows; both multiples of 2 MiB. Asks the
/// kernel module through `control_node`. Throws firmware::Error.
[[nodiscard]] firmware::UniqueFd export_window(const std::filesystem::path& control_node,
                                               int image_fd, std::uint64_t offset,
                                               std::uint64_t bytes);

}  // namespace m4::trust
