// SPDX-License-Identifier: MIT
// Copying an image into the store.
#include <fcntl.h>
#include <m4/image.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/image.hpp"
#include "lib/segment_name.hpp"
#include "lib/signature.hpp"
#include "lib/small_file.hpp"
#include "store.hpp"

namespace m4::store {

using firmware::Error;
using firmware::os_error;
using firmware::UniqueFd;
namespace fs = std::filesystem;

namespace {

/// Folders, and what a file system keeps for itself.
constexpr std::uint64_t kRoomToSpare = 1UL << 20U;

void read_at(const UniqueFd& file, std::span<std::byte> bytes, std::uint64_t offset,
             const std::string& place) {
    while (!bytes.empty()) {
        const ssize_t got =
            ::pread(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            throw got < 0 ? os_error(place, "read")
                          : Error(place, "became shorter while it was read");
        }
        bytes = bytes.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
}

}  // namespace

/// One copy. What is written was checked in this process's memory: it does not
/// matter who writes to the source meanwhile.
//
// The order, and what a power cut leaves behind each step:
//   1. sweep, make .staging-<id>     a folder that begins with a dot
//   2. copy and sync each file       the same, fuller
//   3. sync .staging-<id>            the same, complete
//   4. rename it to <id>             either name; a whole image in both cases,
//                                    because 2 and 3 came before
//   5. sync the images' folder       <id>, for certain
// No link names it yet: whatever happens here, the current image stays.
class Stager {
   public:
    Stager(const FirmwareStore& store, fs::path source, const FirmwareStore::Progress& progress)
        : store_(store),
          disk_(store.disk_),
          source_(std::move(source)),
          progress_(progress),
          folder_(firmware::open_directory(source_.string())) {
        const std::string place = (source_ / M4_IMAGE_MANIFEST_NAME).string();
        auto bytes = firmware::read_small_file_at(folder_, M4_IMAGE_MANIFEST_NAME, place,
                                                  M4_IMAGE_MANIFEST_SPAN);
        if (!bytes) {
            throw Error(place, "is absent: no image is there");
        }
        manifest_ = std::move(*bytes);
        image_ = firmware::Image::parse(manifest_, place);
        if (image_.name() != store.name_) {
            throw Error(place, "is an image named '" + std::string(image_.name()) + "', not '" +
                                   store.name_ + "'");
        }
        read_signature();
        id_ = firmware::to_hex(image_.digest()).substr(0, kIdDigits);
        target_ = store.images_ / id_;
    }

    Staged run() {
        store_.sweep();
        Staged staged;
        staged.author = author_;
        staged.was_there = is_there();
        if (staged.was_there) {
            staged.signature_replaced = renew_signature();
        } else {
            copy();
        }
        staged.image = store_.describe(target_);
        return staged;
    }

   private:
    void read_signature() {
        const std::string place = (source_ / firmware::kSignatureName).string();
        signature_ = firmware::read_signature(source_.string());
        if (signature_.empty()) {
            throw Error(place, "is absent, and the kernel takes no image without: m4fw sign");
        }
        author_ = firmware::Signature::parse(signature_, place).author();
    }

    /// The same image, every byte of it, is in the store.
    bool is_there() {
        std::error_code code;
        if (!fs::is_directory(target_, code)) {
            return false;
        }
        const StoredImage found = store_.describe(target_);
        if (!found.digest.empty() && found.digest != firmware::to_hex(image_.digest())) {
            throw Error(target_.string(), "is another image whose digest begins alike");
        }
        try {
            (void)firmware::MappedImage::open_folder(target_, progress_);
            return true;
        } catch (const Error&) {
            return false;  // damaged: a fresh copy takes its place
        }
    }

    bool renew_signature() {
        try {
            if (firmware::read_signature(target_.string()) == signature_) {
                return false;
            }
        } catch (const Error&) {
            // unreadable: replaced as well
        }
        disk_.replace_file(target_ / firmware::kSignatureName, signature_);
        return true;
    }

    void copy() {
        require_room();
        const fs::path staging = store_.images_ / (".staging-" + id_);
        disk_.make_folder(staging);
        try {
            copy_bytes(staging / M4_IMAGE_MANIFEST_NAME, manifest_);
            copy_bytes(staging / firmware::kSignatureName, signature_);
            for (std::size_t i = 0; i < image_.segments().size(); ++i) {
                copy_shard(i, staging);
            }
            disk_.sync_folder(staging);
            std::error_code code;
            if (fs::exists(target_, code)) {
                disk_.exchange(staging, target_);
                disk_.sync_folder(store_.images_);
                disk_.remove(staging);
            } else {
                disk_.rename(staging, target_);
            }
        } catch (const Error&) {
            std::error_code ignored;
            fs::remove_all(staging, ignored);
            throw;
        }
        disk_.sync_folder(store_.images_);
    }

    void require_room() const {
        struct statvfs room {};
        if (::statvfs(store_.images_.c_str(), &room) != 0) {
            throw os_error(store_.images_.string(), "ask for the free space of");
        }
        const std::uint64_t needed =
            manifest_.size() + signature_.size() + image_.payload_bytes() + kRoomToSpare;
        const std::uint64_t free = std::uint64_t{room.f_bavail} * room.f_frsize;
        if (free < needed) {
            throw Error(store_.images_.string(), "has " + std::to_string(free) +
                                                     " bytes free, and the image needs " +
                                                     std::to_string(needed));
        }
    }

    void copy_bytes(const fs::path& path, std::span<const std::byte> bytes) const {
        const UniqueFd file = disk_.create_file(path, bytes.size());
        disk_.write(file, bytes, path);
        disk_.sync_file(file, path);
    }

    void copy_shard(std::size_t index, const fs::path& staging) {
        const firmware::Segment& segment = image_.segments()[index];
        const std::string name = firmware::segment_name(index);
        const std::string place = (source_ / name).string();
        std::size_t size_bytes = 0;
        const UniqueFd from = firmware::open_regular(folder_, name, place, size_bytes);
        if (size_bytes != segment.size_bytes) {
            throw Error(place, std::to_string(size_bytes) + " bytes instead of " +
                                   std::to_string(segment.size_bytes));
        }
        const UniqueFd to = disk_.create_file(staging / name, size_bytes);
        chunk_.resize(M4_IMAGE_CHUNK_BYTES);
        for (std::uint64_t at = 0; at < segment.size_bytes; at += chunk_.size()) {
            read_at(from, chunk_, at, place);
            const std::uint64_t begin = segment.payload_offset + at;
            if (!image_.chunk_matches(static_cast<std::uint32_t>(begin / M4_IMAGE_CHUNK_BYTES),
                                      chunk_)) {
                throw Error(place + ": chunk " + std::to_string(at / M4_IMAGE_CHUNK_BYTES) +
                                " (bytes " + std::to_string(at) + ".." +
                                std::to_string(at + M4_IMAGE_CHUNK_BYTES - 1) + ")",
                            "digest does not match");
            }
            disk_.write(to, chunk_, staging / name);
            if (progress_) {
                progress_(begin + chunk_.size(), image_.payload_bytes());
            }
        }
        disk_.sync_file(to, staging / name);
        ::posix_fadvise(from.get(), 0, 0, POSIX_FADV_DONTNEED);
    }

    const FirmwareStore& store_;
    const Disk& disk_;
    fs::path source_;
    const FirmwareStore::Progress& progress_;
    UniqueFd folder_;
    std::vector<std::byte> manifest_;
    std::vector<std::byte> signature_;
    std::vector<std::byte> chunk_;
    std::string author_;
    firmware::Image image_;
    std::string id_;
    fs::path target_;
};

Staged FirmwareStore::stage(const fs::path& source, const Progress& progress) {
    require_lock();
    return Stager(*this, source, progress).run();
}

}  // namespace m4::store
