// SPDX-License-Identifier: MIT
#include "disk.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "lib/small_file.hpp"

namespace m4::store {

using firmware::Error;
using firmware::os_error;
using firmware::UniqueFd;
namespace fs = std::filesystem;

void Disk::tell(std::string_view change, const fs::path& path) const {
    if (observer_) {
        observer_(change, path);
    }
}

bool Disk::make_folder(const fs::path& path) const {
    tell("make folder", path);
    if (::mkdir(path.c_str(), 0755) == 0) {
        return true;
    }
    if (errno != EEXIST) {
        throw os_error(path.string(), "create");
    }
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
        throw Error(path.string(), "exists and is not a folder");
    }
    return false;
}

UniqueFd Disk::create_file(const fs::path& path, std::size_t size_bytes) const {
    tell("create file", path);
    UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!file) {
        throw os_error(path.string(), "create");
    }
    const int code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(size_bytes));
    if (code != 0 && code != EOPNOTSUPP && code != EINVAL) {
        throw os_error(path.string(), "claim room on the disk", code);
    }
    return file;
}

void Disk::write(const UniqueFd& file, std::span<const std::byte> bytes,
                 const fs::path& path) const {
    tell("write", path);
    firmware::write_all(file, bytes, path.string());
}

void Disk::sync_file(const UniqueFd& file, const fs::path& path) const {
    tell("sync file", path);
    firmware::sync(file, path.string());
    // The kernel module reads it once; the pages are better used otherwise.
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
}

void Disk::sync_folder(const fs::path& path) const {
    tell("sync folder", path);
    firmware::sync(firmware::open_directory(path.string()), path.string());
}

void Disk::rename(const fs::path& from, const fs::path& to) const {
    tell("rename", to);
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
        throw os_error(to.string(), "rename into place");
    }
}

void Disk::exchange(const fs::path& from, const fs::path& to) const {
    tell("exchange", to);
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
        throw os_error(to.string(), "exchange with what replaces it");
    }
}

void Disk::make_link(const fs::path& link, const fs::path& target) const {
    tell("link", link);
    if (::symlink(target.c_str(), link.c_str()) != 0) {
        throw os_error(link.string(), "link");
    }
}

void Disk::point_link(const fs::path& link, const fs::path& target) const {
    const fs::path fresh = link.parent_path() / ("." + link.filename().string() + ".next");
    if (::unlink(fresh.c_str()) != 0 && errno != ENOENT) {  // of a run that was cut short
        throw os_error(fresh.string(), "remove");
    }
    make_link(fresh, target);
    tell("point link", link);
    if (::rename(fresh.c_str(), link.c_str()) != 0) {
        throw os_error(link.string(), "point to another image");
    }
}

void Disk::remove(const fs::path& path) const {
    tell("remove", path);
    std::error_code code;
    fs::remove_all(path, code);
    if (code) {
        throw os_error(path.string(), "remove", code.value());
    }
}

void Disk::replace_file(const fs::path& path, std::span<const std::byte> bytes) const {
    tell("replace file", path);
    firmware::write_small_file(path.parent_path().string(), path.filename().string(), bytes, 0644,
                               true);
}

}  // namespace m4::store
