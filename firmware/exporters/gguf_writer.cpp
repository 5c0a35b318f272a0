// SPDX-License-Identifier: MIT
#include "gguf_writer.hpp"

#include <array>
#include <bit>
#include <concepts>
#include <type_traits>
#include <utility>

#include "lib/error.hpp"
#include "lib/staged_file.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kAlignment = 32;  // the format's default, so no key says it

std::uint64_t aligned(std::uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

/// Little-endian, whatever the machine.
template <std::integral T>
void append(std::string& out, T value) {
    auto rest = static_cast<std::make_unsigned_t<T>>(value);
    for (std::size_t i = 0; i < sizeof(T); ++i) {
        out += static_cast<char>(rest & 0xffU);
        rest = static_cast<std::make_unsigned_t<T>>(static_cast<std::uint64_t>(rest) >> 8U);
    }
}

void append(std::string& out, float value) {
    append(out, std::bit_cast<std::uint32_t>(value));
}

/// The format's string: its length, then its bytes.
void append_text(std::string& out, std::string_view text) {
    append(out, std::uint64_t{text.size()});
    out += text;
}

}  // namespace

void GgufWriter::begin_key(std::string_view key, GgufType type) {
    ++key_count_;
    append_text(keys_, key);
    append(keys_, static_cast<std::uint32_t>(type));
}

void GgufWriter::begin_array(std::string_view key, GgufType element, std::size_t count) {
    begin_key(key, GgufType::array);
    append(keys_, static_cast<std::uint32_t>(element));
    append(keys_, std::uint64_t{count});
}

void GgufWriter::add_string(std::string_view key, std::string_view value) {
    begin_key(key, GgufType::string);
    append_text(keys_, value);
}

void GgufWriter::add_u32(std::string_view key, std::uint32_t value) {
    begin_key(key, GgufType::u32);
    append(keys_, value);
}

void GgufWriter::add_f32(std::string_view key, float value) {
    begin_key(key, GgufType::f32);
    append(keys_, value);
}

void GgufWriter::add_bool(std::string_view key, bool value) {
    begin_key(key, GgufType::boolean);
    append(keys_, static_cast<std::uint8_t>(value ? 1 : 0));
}

void GgufWriter::add_strings(std::string_view key, std::span<const std::string_view> values) {
    begin_array(key, GgufType::string, values.size());
    for (const auto value : values) {
        append_text(keys_, value);
    }
}

void GgufWriter::add_floats(std::string_view key, std::span<const float> values) {
    begin_array(key, GgufType::f32, values.size());
    for (const float value : values) {
        append(keys_, value);
    }
}

void GgufWriter::add_i32s(std::string_view key, std::span<const std::int32_t> values) {
    begin_array(key, GgufType::i32, values.size());
    for (const auto value : values) {
        append(keys_, value);
    }
}

void GgufWriter::add_tensor(std::string name, SourceType type, std::vector<std::uint64_t> shape,
                            Producer producer) {
    const std::uint64_t bytes = source_bytes(type, shape, "tensor '" + name + "'");
    tensors_.push_back({std::move(name), type, std::move(shape), std::move(producer), bytes});
}

std::string GgufWriter::head() const {
    std::string out(kMagic);
    append(out, kVersion);
    append(out, std::uint64_t{tensors_.size()});
    append(out, key_count_);
    out += keys_;
    std::uint64_t offset = 0;
    for (const auto& tensor : tensors_) {
        append_text(out, tensor.name);
        append(out, static_cast<std::uint32_t>(tensor.shape.size()));
        for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) {
            append(out, *extent);
        }
        append(out, gguf_type_code(tensor.type));
        append(out, offset);
        offset += aligned(tensor.bytes);
    }
    out.resize(aligned(out.size()), '\0');
    return out;
}

std::uint64_t GgufWriter::file_bytes() const {
    std::uint64_t bytes = head().size();
    for (const auto& tensor : tensors_) {
        bytes += aligned(tensor.bytes);
    }
    return bytes;
}

void GgufWriter::write(StagedFile& out, const Progress& progress) const {
    constexpr std::array<std::byte, kAlignment> kZeros{};
    const std::uint64_t total = file_bytes();
    const std::string first = head();
    out.write(std::as_bytes(std::span(first)));
    std::uint64_t done = first.size();
    for (const auto& tensor : tensors_) {
        std::uint64_t given = 0;
        tensor.producer([&](std::span<const std::byte> bytes) {
            out.write(bytes);
            given += bytes.size();
            progress(done + given, total);
        });
        if (given != tensor.bytes) {
            throw Error(out.place() + ": tensor '" + tensor.name + "'",
                        "got " + std::to_string(given) + " bytes instead of " +
                            std::to_string(tensor.bytes));
        }
        out.write(std::span(kZeros).first(aligned(given) - given));
        done += aligned(given);
    }
}

}  // namespace m4::firmware
