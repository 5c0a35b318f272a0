// SPDX-License-Identifier: MIT
#include "mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "lib/error.hpp"
#include "lib/file.hpp"

namespace m4::firmware {

MappedFile::MappedFile(const std::filesystem::path& path) : place_(path.string()) {
    // Opening a FIFO must not wait for its writer.
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) {
        throw os_error(place_, "open");
    }
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) {
        throw os_error(place_, "stat");
    }
    if (!S_ISREG(info.st_mode)) {
        throw Error(place_, "is not a regular file");
    }
    size_bytes_ = static_cast<std::size_t>(info.st_size);
    if (size_bytes_ == 0) {
        return;  // mmap refuses length 0; an empty span is what readers expect
    }
    void* mapped = ::mmap(nullptr, size_bytes_, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapped == MAP_FAILED) {
        throw os_error(place_, "map");
    }
    data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : place_(std::move(other.place_)),
      data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(place_, other.place_);
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) {
        ::munmap(const_cast<std::byte*>(data_), size_bytes_);
    }
}

std::string read_small_file(const std::filesystem::path& path, std::size_t limit_bytes) {
    const MappedFile file(path);
    const auto bytes = file.bytes();
    if (bytes.size() > limit_bytes) {
        throw Error(file.place(), "is larger than " + std::to_string(limit_bytes) + " bytes");
    }
    return bytes.empty() ? std::string{}
                         : std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

bool is_there(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
}

std::string shown(std::string_view name) {
    constexpr std::size_t kMostBytes = 80;
    constexpr char kHex[] = "0123456789abcdef";
    std::string out = "'";
    for (const char c : name.substr(0, kMostBytes)) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f) {
            out += c;
        } else {
            out += "\\x";
            out += kHex[byte >> 4];
            out += kHex[byte & 15];
        }
    }
    out += name.size() > kMostBytes ? "...'" : "'";
    return out;
}

}  // namespace m4::firmware
