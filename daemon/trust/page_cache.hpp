// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>

namespace m4::trust {

/// Lets go of the page cache's copy of an image's files: the kernel module
/// read them once into memory of its own and nobody reads them again. Best
/// effort, as pages in use stay. Bytes of the files it was done for.
std::uint64_t drop_page_cache(const std::filesystem::path& folder);

}  // namespace m4::trust
