// SPDX-License-Identifier: MIT
#include "trust/page_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <system_error>

#include "lib/file.hpp"

namespace m4::trust {

std::uint64_t drop_page_cache(const std::filesystem::path& folder) {
    std::uint64_t dropped_bytes = 0;
    std::error_code error;
    for (auto entry = std::filesystem::directory_iterator(folder, error);
         !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        const firmware::UniqueFd file(
            ::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
        struct stat info {};
        if (file && ::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode) &&
            ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED) == 0) {
            dropped_bytes += static_cast<std::uint64_t>(info.st_size);
        }
    }
    return dropped_bytes;
}

}  // namespace m4::trust
