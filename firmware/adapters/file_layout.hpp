// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>

/// The fixed part of an adapter file: docs/adapter-format.md.
namespace m4::firmware {

static_assert(std::endian::native == std::endian::little, "the file's integers are copied as is");

inline constexpr std::array<char, 8> kAdapterMagic = {'M', '4', 'A', 'D', '\r', '\n', '\x1a', '\n'};
inline constexpr std::uint64_t kAdapterAlign = 64;

struct AdapterHeader {
    std::array<char, 8> magic = kAdapterMagic;
    std::uint16_t version_major = 1;
    std::uint16_t version_minor = 0;
    std::uint32_t header_bytes = 128;
    std::uint64_t incompat = 0;
    std::uint64_t file_bytes = 0;
    std::uint64_t metadata_offset = 0;
    std::uint64_t metadata_bytes = 0;
    std::uint64_t data_offset = 0;
    std::uint64_t data_bytes = 0;
    std::array<std::uint8_t, 64> reserved{};
};
static_assert(sizeof(AdapterHeader) == 128 && std::is_trivially_copyable_v<AdapterHeader>);

[[nodiscard]] constexpr std::uint64_t align_data(std::uint64_t offset) {
    return (offset + kAdapterAlign - 1) / kAdapterAlign * kAdapterAlign;
}

}  // namespace m4::firmware
