// SPDX-License-Identifier: MIT
// Payloads beside a message: sealed memfds, made and checked.
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "protocol/codec.hpp"

// Since Linux 6.3; older kernels refuse the flag with EINVAL.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace m4::protocol {

namespace {

constexpr int kRequiredSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

[[noreturn]] void throw_errno(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

void write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0) {
            if (errno == EINTR) {
                continue;
            }
            throw_errno("memfd write");
        }
        bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
}

/// False at a short file or an error.
bool read_all(int fd, std::span<std::byte> bytes) {
    off_t offset = 0;
    while (!bytes.empty()) {
        const ssize_t got = ::pread(fd, bytes.data(), bytes.size(), offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        offset += got;
        bytes = bytes.subspan(static_cast<std::size_t>(got));
    }
    return true;
}

UniqueFd make_memfd() {
    constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    UniqueFd fd(::memfd_create("m4-bulk", kFlags | MFD_NOEXEC_SEAL));
    if (!fd && errno == EINVAL) {
        fd.reset(::memfd_create("m4-bulk", kFlags));
    }
    if (!fd) {
        throw_errno("memfd_create");
    }
    return fd;
}

void seal(const UniqueFd& fd) {
    if (::fcntl(fd.get(), F_ADD_SEALS, kRequiredSeals | F_SEAL_SEAL) != 0) {
        throw_errno("memfd seal");
    }
}

}  // namespace

bool is_sealed(int fd) {
    // Only a memfd (or a hugetlb one) can carry these seals: a tmpfs file has
    // none but F_SEAL_SEAL, any other file has no seals at all.
    const int seals = ::fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & kRequiredSeals) == kRequiredSeals;
}

UniqueFd copy_to_sealed_memfd(int file, std::uint64_t size_bytes) {
    constexpr std::size_t kPieceBytes = std::size_t{1} << 20U;
    UniqueFd fd = make_memfd();
    std::vector<std::byte> piece(std::min<std::uint64_t>(size_bytes, kPieceBytes));
    for (std::uint64_t done = 0; done < size_bytes;) {
        const std::span<std::byte> room(piece.data(),
                                        std::min<std::uint64_t>(size_bytes - done, piece.size()));
        const ssize_t got = ::pread(file, room.data(), room.size(), static_cast<off_t>(done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            throw_errno("pread");
        }
        if (got == 0) {
            throw std::system_error(std::make_error_code(std::errc::io_error),
                                    "the file became shorter while it was read");
        }
        write_all(fd.get(), room.first(static_cast<std::size_t>(got)));
        done += static_cast<std::uint64_t>(got);
    }
    seal(fd);
    return fd;
}

UniqueFd make_sealed_memfd(std::span<const std::byte> bytes) {
    return make_sealed_memfd(std::span(&bytes, 1), kMaxBulkBytes);
}

UniqueFd make_sealed_memfd(std::span<const std::span<const std::byte>> pieces,
                           std::size_t max_bytes) {
    std::size_t total = 0;
    for (const auto piece : pieces) {
        total += piece.size();
    }
    if (total > max_bytes) {
        throw std::length_error("payload of " + std::to_string(total) + " bytes");
    }
    UniqueFd fd = make_memfd();
    for (const auto piece : pieces) {
        write_all(fd.get(), piece);
    }
    seal(fd);
    return fd;
}

namespace {

/// Of a payload in its message.
Fault check_inline(const wire::Bulk& bulk, const UniqueFd& memfd, std::size_t max_bytes) {
    if (memfd || bulk.size_bytes() != 0) {
        return Fault::kBulkInvalid;
    }
    return span_of(bulk.bytes()).size() > max_bytes ? Fault::kBulkTooLarge : Fault::kNone;
}

/// Of a payload in a memfd; `info` is what fstat tells.
Fault check_memfd(const wire::Bulk& bulk, const UniqueFd& memfd, std::size_t max_bytes,
                  struct stat& info) {
    if (!memfd || !span_of(bulk.bytes()).empty()) {
        return Fault::kBulkInvalid;
    }
    if (bulk.size_bytes() > max_bytes) {
        return Fault::kBulkTooLarge;
    }
    if (!is_sealed(memfd.get())) {
        return Fault::kBulkUnsealed;
    }
    // The size cannot change any more, so what fstat tells stays true.
    if (::fstat(memfd.get(), &info) != 0) {
        return Fault::kSystem;
    }
    const bool as_told =
        info.st_size >= 0 && static_cast<std::uint64_t>(info.st_size) == bulk.size_bytes();
    return as_told ? Fault::kNone : Fault::kBulkSize;
}

}  // namespace

BulkView::~BulkView() {
    if (!mapped_.empty()) {
        (void)::munmap(const_cast<std::byte*>(mapped_.data()), mapped_.size());
    }
}

BulkView& BulkView::operator=(BulkView&& other) noexcept {
    std::swap(mapped_, other.mapped_);
    std::swap(copy_, other.copy_);
    return *this;
}

Fault take_view(const wire::Bulk* bulk, UniqueFd& fd, std::size_t max_bytes, BulkView& out) {
    if (bulk == nullptr) {
        return Fault::kBulkMissing;
    }
    const UniqueFd memfd = std::move(fd);
    max_bytes = std::min(max_bytes, kMaxViewBytes);
    BulkView view;
    if (!bulk->in_fd()) {
        const Fault fault = check_inline(*bulk, memfd, max_bytes);
        const auto bytes = std::as_bytes(span_of(bulk->bytes()));
        if (fault == Fault::kNone) {
            view.copy_.assign(bytes.begin(), bytes.end());
            out = std::move(view);
        }
        return fault;
    }
    struct stat info = {};
    if (const Fault fault = check_memfd(*bulk, memfd, max_bytes, info); fault != Fault::kNone) {
        return fault;
    }
    constexpr std::uint64_t kBlockBytes = 512;  // of st_blocks, whatever the filesystem
    if (static_cast<std::uint64_t>(info.st_blocks) * kBlockBytes < bulk->size_bytes()) {
        return Fault::kBulkSparse;
    }
    if (bulk->size_bytes() != 0) {
        void* at = ::mmap(nullptr, bulk->size_bytes(), PROT_READ, MAP_SHARED, memfd.get(), 0);
        if (at == MAP_FAILED) {
            return Fault::kSystem;
        }
        view.mapped_ = {static_cast<const std::byte*>(at),
                        static_cast<std::size_t>(bulk->size_bytes())};
    }
    out = std::move(view);
    return Fault::kNone;
}

Fault take_bulk(const wire::Bulk* bulk, UniqueFd& fd, std::size_t max_bytes, BulkBytes& out) {
    if (bulk == nullptr) {
        return Fault::kBulkMissing;
    }
    const UniqueFd memfd = std::move(fd);
    max_bytes = std::min(max_bytes, kMaxBulkBytes);
    if (!bulk->in_fd()) {
        const Fault fault = check_inline(*bulk, memfd, max_bytes);
        if (fault == Fault::kNone) {
            out.copy_.reset();
            out.bytes_ = std::as_bytes(span_of(bulk->bytes()));
        }
        return fault;
    }
    struct stat info = {};
    if (const Fault fault = check_memfd(*bulk, memfd, max_bytes, info); fault != Fault::kNone) {
        return fault;
    }
    const auto size_bytes = static_cast<std::size_t>(bulk->size_bytes());
    auto copy = std::make_unique_for_overwrite<std::byte[]>(size_bytes);
    if (!read_all(memfd.get(), {copy.get(), size_bytes})) {
        return Fault::kSystem;
    }
    out.copy_ = std::move(copy);
    out.bytes_ = {out.copy_.get(), size_bytes};
    return Fault::kNone;
}

}  // namespace m4::protocol
