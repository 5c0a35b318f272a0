// SPDX-License-Identifier: MIT
#include "staged_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace m4::firmware {

namespace {

/// A link is replaced itself, whatever it leads to.
void require_replaceable(const UniqueFd& folder, const std::string& name, const std::string& place,
                         bool replace) {
    struct stat status {};
    if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) {
            return;
        }
        throw os_error(place, "stat");
    }
    if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode)) {
        throw Error(place, "exists and is not a file");
    }
    if (!replace) {
        throw Error(place, "exists already");
    }
}

}  // namespace

StagedFile::StagedFile(const std::filesystem::path& target, mode_t mode, bool replace)
    : place_(target.string()), name_(target.filename().string()), replace_(replace) {
    if (name_.empty() || name_ == "." || name_ == "..") {
        throw Error(place_, "is no name of a file");
    }
    folder_ = open_directory(target.has_parent_path() ? target.parent_path().string() : ".");
    require_replaceable(folder_, name_, place_, replace_);
    partial_ = "." + name_ + ".partial-" + std::to_string(::getpid());
    file_ = UniqueFd(::openat(folder_.get(), partial_.c_str(),
                              O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!file_) {
        throw os_error(place_, "create a file beside it");
    }
}

StagedFile::~StagedFile() {
    if (file_) {
        ::unlinkat(folder_.get(), partial_.c_str(), 0);
    }
}

void StagedFile::write(std::span<const std::byte> bytes) {
    write_all(file_, bytes, place_);
}

void StagedFile::commit() {
    sync(file_, place_);
    const unsigned flags = replace_ ? 0U : static_cast<unsigned>(RENAME_NOREPLACE);
    if (::renameat2(folder_.get(), partial_.c_str(), folder_.get(), name_.c_str(), flags) != 0) {
        throw errno == EEXIST ? Error(place_, "exists already")
                              : os_error(place_, "rename into place");
    }
    file_.reset();
    sync(folder_, place_);
}

}  // namespace m4::firmware
