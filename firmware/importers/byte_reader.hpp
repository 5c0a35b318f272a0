// SPDX-License-Identifier: MIT
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "lib/error.hpp"

namespace m4::firmware {

static_assert(std::endian::native == std::endian::little,
              "checkpoints are little-endian; loads here copy bytes as they are");

/// A cursor over untrusted little-endian bytes. Every length is compared with
/// what remains before anything is touched. Borrows the bytes.
class ByteReader {
   public:
    ByteReader(std::span<const std::byte> bytes, std::string place)
        : bytes_(bytes), place_(std::move(place)) {}

    [[nodiscard]] std::uint64_t remaining() const { return bytes_.size() - position_; }
    [[nodiscard]] std::uint64_t position() const { return position_; }
    [[nodiscard]] const std::string& place() const { return place_; }

    /// `what` completes "the file ends inside ...".
    [[nodiscard]] std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
        if (count > remaining()) {
            throw Error(place_, "the file ends inside " + std::string(what));
        }
        const auto out = bytes_.subspan(position_, count);
        position_ += count;
        return out;
    }

    template <typename T>
    [[nodiscard]] T read(std::string_view what) {
        static_assert(std::is_arithmetic_v<T>);
        T value{};
        const auto from = take(sizeof(T), what);
        std::memcpy(&value, from.data(), sizeof(T));
        return value;
    }

    /// Skip `count` elements of `element_bytes` each; the product may overflow.
    [[nodiscard]] std::span<const std::byte> take_array(std::uint64_t count,
                                                        std::uint64_t element_bytes,
                                                        std::string_view what) {
        if (element_bytes != 0 && count > remaining() / element_bytes) {
            throw Error(place_, "the file ends inside " + std::string(what));
        }
        return take(count * element_bytes, what);
    }

   private:
    std::span<const std::byte> bytes_;
    std::uint64_t position_ = 0;
    std::string place_;
};

[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) {
    return bytes.empty()
               ? std::string_view{}
               : std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace m4::firmware
