// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint.hpp"

namespace m4::firmware {

/// Types of GGUF metadata, by their codes in the file.
enum class GgufType : std::uint32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    string = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12,
};

/// A metadata value as it lies in the file: checked to be whole, decoded when
/// asked for. For an array, `bytes` are the elements.
struct GgufValue {
    GgufType type{};
    GgufType element{};       ///< of an array
    std::uint64_t count = 0;  ///< of an array
    std::span<const std::byte> bytes;
};

/// A GGUF file, version 2 or 3, little-endian. Everything a length or count
/// says was compared with the file before it was believed. Const and safe from
/// any thread once open. Typed getters: nullopt where the key is absent, Error
/// naming the key where it has another type or is out of range.
class GgufFile {
   public:
    explicit GgufFile(const std::filesystem::path& path);  ///< throws Error

    [[nodiscard]] bool has(std::string_view key) const;
    [[nodiscard]] std::optional<std::uint64_t> unsigned_value(std::string_view key) const;
    [[nodiscard]] std::optional<double> real_value(std::string_view key) const;
    [[nodiscard]] std::optional<bool> bool_value(std::string_view key) const;
    [[nodiscard]] std::optional<std::string> string_value(std::string_view key) const;
    /// Views into the mapping.
    [[nodiscard]] std::optional<std::vector<std::string_view>> string_array(
        std::string_view key) const;
    [[nodiscard]] std::optional<std::vector<float>> float_array(std::string_view key) const;
    [[nodiscard]] std::optional<std::vector<std::int64_t>> integer_array(
        std::string_view key) const;

    [[nodiscard]] const std::map<std::string, GgufValue, std::less<>>& metadata() const {
        return metadata_;
    }
    [[nodiscard]] const std::shared_ptr<const Checkpoint>& checkpoint() const {
        return checkpoint_;
    }
    [[nodiscard]] const std::string& place() const { return place_; }
    /// "<file>: key '<key>'"
    [[nodiscard]] std::string key_place(std::string_view key) const;

   private:
    [[nodiscard]] const GgufValue* find(std::string_view key) const;

    std::string place_;
    std::map<std::string, GgufValue, std::less<>> metadata_;
    std::shared_ptr<const Checkpoint> checkpoint_;
};

/// The format's number of a tensor type; not of `computed` and `other`, which
/// no file has.
[[nodiscard]] std::uint32_t gguf_type_code(SourceType type);

/// Whether the file begins as GGUF does.
[[nodiscard]] bool looks_like_gguf(const std::filesystem::path& path);

}  // namespace m4::firmware
