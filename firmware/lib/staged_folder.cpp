// SPDX-License-Identifier: MIT
#include "staged_folder.hpp"

#include <fcntl.h>
#include <m4/image.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace m4::firmware {

namespace {

constexpr int kNamesTried = 100;

/// manifest.m4m, its signature and shards.
bool is_image_file(const std::string& name) {
    const std::string manifest = M4_IMAGE_MANIFEST_NAME;
    if (name == manifest || name == manifest + ".p7s") {
        return true;
    }
    return name.size() == 11 && name.starts_with("seg-") && name.ends_with(".m4w") &&
           std::all_of(name.begin() + 4, name.begin() + 7,
                       [](char ch) { return ch >= '0' && ch <= '9'; });
}

/// Nothing but an image's files may be removed with a folder.
void require_replaceable(const std::filesystem::path& target, bool replace) {
    std::error_code code;
    const auto status = std::filesystem::symlink_status(target, code);
    if (status.type() == std::filesystem::file_type::not_found) {
        return;
    }
    if (code) {
        throw os_error(target.string(), "stat", code.value());
    }
    if (status.type() != std::filesystem::file_type::directory) {
        throw Error(target.string(), "exists and is not a folder");
    }
    std::filesystem::directory_iterator entries(target, code);
    if (code) {
        throw os_error(target.string(), "read", code.value());
    }
    for (const auto& entry : entries) {
        const std::string name = entry.path().filename().string();
        if (!is_image_file(name)) {
            throw Error(target.string(), "holds '" + name + "', which is no part of an image");
        }
        if (!replace) {
            throw Error(target.string(), "holds an image already");
        }
    }
}

}  // namespace

StagedFolder::StagedFolder(const std::filesystem::path& target, bool replace)
    : target_(target.has_filename() ? target : target.parent_path()), replace_(replace) {
    require_replaceable(target_, replace);
    if (target_.filename() == "." || target_.filename() == "..") {
        target_ = std::filesystem::canonical(target_);  // something to stand beside
    }
    // mkdir rather than mkdtemp: the final folder gets the user's umask.
    const std::string prefix =
        "." + target_.filename().string() + ".partial-" + std::to_string(::getpid()) + "-";
    for (int i = 0; i < kNamesTried; ++i) {
        auto staged = target_.parent_path() / (prefix + std::to_string(i));
        if (::mkdir(staged.c_str(), 0777) == 0) {
            staged_ = std::move(staged);
            return;
        }
        if (errno != EEXIST) {
            break;
        }
    }
    throw os_error(target_.string(), "create a folder beside it");
}

StagedFolder::~StagedFolder() {
    if (!staged_.empty()) {
        std::error_code ignored;
        std::filesystem::remove_all(staged_, ignored);
    }
}

UniqueFd StagedFolder::create(const std::string& name, std::size_t size_bytes) const {
    const auto path = staged_ / name;
    UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!file) {
        throw os_error(place(name), "create");
    }
    const int code = ::posix_fallocate(file.get(), 0, static_cast<off_t>(size_bytes));
    if (code != 0 && code != EOPNOTSUPP && code != EINVAL) {
        throw os_error(place(name), ("claim " + std::to_string(size_bytes) + " bytes").c_str(),
                       code);
    }
    return file;
}

std::string StagedFolder::place(const std::string& name) const {
    return (target_ / name).string();
}

void StagedFolder::commit() {
    sync(open_directory(staged_.string()), target_.string());
    const bool exists = std::filesystem::exists(target_);
    const unsigned flags = exists ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    if (::renameat2(AT_FDCWD, staged_.c_str(), AT_FDCWD, target_.c_str(), flags) != 0) {
        throw os_error(target_.string(), "rename the new image into place");
    }
    // After an exchange the old folder has the staged name: the check at the
    // start is repeated before it goes, and what it then holds is kept.
    if (exists) {
        require_replaceable(staged_, replace_);
        std::filesystem::remove_all(staged_);
    }
    staged_.clear();
    const auto parent = target_.has_parent_path() ? target_.parent_path() : ".";
    sync(open_directory(parent.string()), parent.string());
}

}  // namespace m4::firmware
