// SPDX-License-Identifier: MIT
#include "file.hpp"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "protocol/codec.hpp"

namespace m4::adapters {

File::File(std::span<const std::byte> bytes)
    : fd_(protocol::make_sealed_memfd(std::array{bytes}, protocol::kMaxAdapterBytes)) {
    if (bytes.empty()) {
        return;
    }
    void* mapped = ::mmap(nullptr, bytes.size(), PROT_READ, MAP_SHARED, fd_.get(), 0);
    if (mapped == MAP_FAILED) {
        throw std::system_error(errno, std::generic_category(), "an adapter cannot be mapped");
    }
    bytes_ = {static_cast<const std::byte*>(mapped), bytes.size()};
}

File::~File() {
    if (!bytes_.empty()) {
        ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
    }
}

}  // namespace m4::adapters
