// SPDX-License-Identifier: MIT
#include "gguf.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>

#include "byte_reader.hpp"
#include "lib/error.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint64_t kNameMost = 65535;  // the format's limit for keys; tensors use less
constexpr std::uint32_t kRankMost = 4;
constexpr std::uint64_t kDefaultAlignment = 32;
// The least a key or a tensor can take: its lengths, its type, one byte.
constexpr std::uint64_t kLeastKeyBytes = 8 + 4 + 1;
constexpr std::uint64_t kLeastTensorBytes = 8 + 4 + 8 + 4 + 8;

/// Tensor types by their code; only the first rows are imported, the others
/// are here to be refused by name.
struct TensorTypeRow {
    std::uint32_t code;
    const char* name;
    SourceType type;
};
constexpr TensorTypeRow kTensorTypes[] = {
    {0, "F32", SourceType::f32},       {1, "F16", SourceType::f16},
    {30, "BF16", SourceType::bf16},    {2, "Q4_0", SourceType::q4_0},
    {3, "Q4_1", SourceType::other},    {6, "Q5_0", SourceType::other},
    {7, "Q5_1", SourceType::other},    {8, "Q8_0", SourceType::q8_0},
    {9, "Q8_1", SourceType::other},    {10, "Q2_K", SourceType::other},
    {11, "Q3_K", SourceType::other},   {12, "Q4_K", SourceType::other},
    {13, "Q5_K", SourceType::other},   {14, "Q6_K", SourceType::other},
    {15, "Q8_K", SourceType::other},   {16, "IQ2_XXS", SourceType::other},
    {17, "IQ2_XS", SourceType::other}, {18, "IQ3_XXS", SourceType::other},
    {19, "IQ1_S", SourceType::other},  {20, "IQ4_NL", SourceType::other},
    {21, "IQ3_S", SourceType::other},  {22, "IQ2_S", SourceType::other},
    {23, "IQ4_XS", SourceType::other}, {24, "I8", SourceType::other},
    {25, "I16", SourceType::other},    {26, "I32", SourceType::other},
    {27, "I64", SourceType::other},    {28, "F64", SourceType::other},
    {29, "IQ1_M", SourceType::other},  {34, "TQ1_0", SourceType::other},
    {35, "TQ2_0", SourceType::other},  {39, "MXFP4", SourceType::other},
};

/// Bytes of a fixed-size metadata value; 0 for strings, arrays and unknowns.
std::uint64_t scalar_bytes(GgufType type) {
    switch (type) {
        case GgufType::u8:
        case GgufType::i8:
        case GgufType::boolean:
            return 1;
        case GgufType::u16:
        case GgufType::i16:
            return 2;
        case GgufType::u32:
        case GgufType::i32:
        case GgufType::f32:
            return 4;
        case GgufType::u64:
        case GgufType::i64:
        case GgufType::f64:
            return 8;
        case GgufType::string:
        case GgufType::array:
            break;
    }
    return 0;
}

std::string_view read_name(ByteReader& in, std::string_view what) {
    const auto size = in.read<std::uint64_t>(what);
    if (size == 0 || size > kNameMost) {
        throw Error(in.place(), std::string(what) + " has a length of " + std::to_string(size));
    }
    return as_text(in.take(size, what));
}

/// The bytes of `count` strings, each checked to be whole.
std::span<const std::byte> take_strings(ByteReader& in, std::span<const std::byte> file,
                                        std::uint64_t count, const std::string& what) {
    const auto begin = in.position();
    if (count > in.remaining() / sizeof(std::uint64_t)) {
        throw Error(in.place(), "the file ends inside " + what);
    }
    for (std::uint64_t i = 0; i < count; ++i) {
        const auto size = in.read<std::uint64_t>(what);
        static_cast<void>(in.take(size, what));
    }
    return file.subspan(begin, in.position() - begin);
}

GgufValue read_value(ByteReader& in, std::span<const std::byte> file, const std::string& what) {
    GgufValue value;
    value.type = static_cast<GgufType>(in.read<std::uint32_t>(what));
    if (value.type == GgufType::string) {
        value.bytes = in.take(in.read<std::uint64_t>(what), what);
        return value;
    }
    if (value.type == GgufType::array) {
        value.element = static_cast<GgufType>(in.read<std::uint32_t>(what));
        value.count = in.read<std::uint64_t>(what);
        if (value.element == GgufType::string) {
            value.bytes = take_strings(in, file, value.count, what);
            return value;
        }
    }
    const auto type = value.type == GgufType::array ? value.element : value.type;
    const auto size = scalar_bytes(type);
    if (size == 0) {
        throw Error(in.place(), what + " has type " +
                                    std::to_string(static_cast<std::uint32_t>(type)) +
                                    (value.type == GgufType::array ? " as array element" : "") +
                                    ", which is not known");
    }
    value.bytes = in.take_array(value.type == GgufType::array ? value.count : 1, size, what);
    return value;
}

template <typename T>
T load(std::span<const std::byte> bytes, std::uint64_t index = 0) {
    T value{};
    std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
    return value;
}

/// An integer of any width; nullopt where the type is no integer or the value
/// does not fit (u64 beyond int64).
std::optional<std::int64_t> load_integer(GgufType type, std::span<const std::byte> bytes,
                                         std::uint64_t index = 0) {
    switch (type) {
        case GgufType::u8:
            return load<std::uint8_t>(bytes, index);
        case GgufType::i8:
            return load<std::int8_t>(bytes, index);
        case GgufType::u16:
            return load<std::uint16_t>(bytes, index);
        case GgufType::i16:
            return load<std::int16_t>(bytes, index);
        case GgufType::u32:
            return load<std::uint32_t>(bytes, index);
        case GgufType::i32:
            return load<std::int32_t>(bytes, index);
        case GgufType::i64:
            return load<std::int64_t>(bytes, index);
        case GgufType::u64: {
            const auto value = load<std::uint64_t>(bytes, index);
            if (value <= static_cast<std::uint64_t>(INT64_MAX)) {
                return static_cast<std::int64_t>(value);
            }
            return std::nullopt;
        }
        default:
            return std::nullopt;
    }
}

struct PendingTensor {
    SourceTensor tensor;
    std::uint64_t offset = 0;
};

PendingTensor read_tensor_info(ByteReader& in) {
    PendingTensor out;
    out.tensor.file = in.place();
    out.tensor.name = std::string(read_name(in, "a tensor's name"));
    const std::string what = "tensor " + shown(out.tensor.name);
    const auto rank = in.read<std::uint32_t>(what);
    if (rank == 0 || rank > kRankMost) {
        throw Error(in.place(), what + " has " + std::to_string(rank) + " dimensions");
    }
    out.tensor.shape.resize(rank);
    for (std::uint32_t i = 0; i < rank; ++i) {  // the file names the innermost first
        out.tensor.shape[rank - 1 - i] = in.read<std::uint64_t>(what);
    }
    const auto code = in.read<std::uint32_t>(what);
    out.tensor.type_name = "number " + std::to_string(code);
    for (const auto& row : kTensorTypes) {
        if (row.code == code) {
            out.tensor.type_name = row.name;
            out.tensor.type = row.type;
        }
    }
    out.offset = in.read<std::uint64_t>(what);
    return out;
}

/// Gives each tensor its bytes of the data region and moves it over.
void place_tensors(std::vector<PendingTensor>& pending, std::span<const std::byte> data,
                   std::uint64_t alignment, Checkpoint& checkpoint) {
    std::vector<ByteRange> ranges;
    for (auto& [tensor, offset] : pending) {
        if (offset % alignment != 0) {
            throw Error(tensor.place(), "offset " + std::to_string(offset) + " is no multiple of " +
                                            std::to_string(alignment));
        }
        // What a type that is not imported takes is not known; it is refused when read.
        const auto size = source_bytes(tensor.type, tensor.shape, tensor.place());
        if (offset > data.size() || size > data.size() - offset) {
            throw Error(tensor.place(), "its data lies beyond the end of the file");
        }
        tensor.bytes = data.subspan(offset, size);
        ranges.push_back({offset, offset + size, tensor.name});
        checkpoint.add(std::move(tensor));
    }
    refuse_overlaps(std::move(ranges), checkpoint.place());
}

void check_version(std::uint32_t version, const std::string& place) {
    if (version == 2 || version == 3) {
        return;
    }
    if (version == 0x02000000U || version == 0x03000000U) {
        throw Error(place, "is a big-endian GGUF file; little-endian ones are imported");
    }
    throw Error(place,
                "is GGUF version " + std::to_string(version) + "; versions 2 and 3 are imported");
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : place_(path.string()) {
    auto checkpoint = std::make_shared<Checkpoint>(place_);
    const auto file = checkpoint->adopt(MappedFile(path));
    ByteReader in(file, place_);
    if (as_text(in.take(kMagic.size(), "the magic")) != kMagic) {
        throw Error(place_, "is not a GGUF file");
    }
    check_version(in.read<std::uint32_t>("the version"), place_);
    const auto tensor_count = in.read<std::uint64_t>("the tensor count");
    const auto key_count = in.read<std::uint64_t>("the key count");
    if (key_count > in.remaining() / kLeastKeyBytes) {
        throw Error(place_, "cannot hold " + std::to_string(key_count) + " keys");
    }
    for (std::uint64_t i = 0; i < key_count; ++i) {
        const std::string key(read_name(in, "a key's name"));
        const auto value = read_value(in, file, "key " + shown(key));
        if (!metadata_.emplace(key, value).second) {
            throw Error(key_place(key), "occurs twice");
        }
    }
    const auto alignment = unsigned_value("general.alignment").value_or(kDefaultAlignment);
    if (alignment < 8 || alignment > (1ULL << 20) || (alignment & (alignment - 1)) != 0) {
        throw Error(key_place("general.alignment"),
                    std::to_string(alignment) + " is no power of two between 8 and 1 MiB");
    }
    if (tensor_count > in.remaining() / kLeastTensorBytes) {
        throw Error(place_, "cannot hold " + std::to_string(tensor_count) + " tensors");
    }
    std::vector<PendingTensor> pending;
    pending.reserve(tensor_count);
    for (std::uint64_t i = 0; i < tensor_count; ++i) {
        pending.push_back(read_tensor_info(in));
    }
    const auto padding = (alignment - in.position() % alignment) % alignment;
    const bool has_data = padding <= in.remaining();
    if (!has_data && tensor_count != 0) {
        throw Error(place_, "ends before the tensors' data");
    }
    const auto data =
        has_data ? file.subspan(in.position() + padding) : std::span<const std::byte>{};
    place_tensors(pending, data, alignment, *checkpoint);
    checkpoint_ = std::move(checkpoint);
}

std::string GgufFile::key_place(std::string_view key) const {
    return place_ + ": key " + shown(key);
}

const GgufValue* GgufFile::find(std::string_view key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
}

bool GgufFile::has(std::string_view key) const {
    return find(key) != nullptr;
}

std::optional<std::uint64_t> GgufFile::unsigned_value(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    const auto integer = load_integer(value->type, value->bytes);
    if (!integer || *integer < 0) {
        throw Error(key_place(key), "is not one unsigned integer");
    }
    return static_cast<std::uint64_t>(*integer);
}

std::optional<double> GgufFile::real_value(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    double real = NAN;
    if (value->type == GgufType::f32) {
        real = load<float>(value->bytes);
    } else if (value->type == GgufType::f64) {
        real = load<double>(value->bytes);
    }
    if (!std::isfinite(real)) {
        throw Error(key_place(key), "is not one finite real number");
    }
    return real;
}

std::optional<bool> GgufFile::bool_value(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (value->type != GgufType::boolean) {
        throw Error(key_place(key), "is not one boolean");
    }
    const auto byte = load<std::uint8_t>(value->bytes);
    if (byte > 1) {
        throw Error(key_place(key), "is neither 0 nor 1");
    }
    return byte == 1;
}

std::optional<std::string> GgufFile::string_value(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (value->type != GgufType::string) {
        throw Error(key_place(key), "is not one string");
    }
    return std::string(as_text(value->bytes));
}

std::optional<std::vector<std::string_view>> GgufFile::string_array(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (value->type != GgufType::array || value->element != GgufType::string) {
        throw Error(key_place(key), "is not an array of strings");
    }
    std::vector<std::string_view> out;
    out.reserve(value->count);
    ByteReader in(value->bytes, key_place(key));
    for (std::uint64_t i = 0; i < value->count; ++i) {
        out.push_back(as_text(in.take(in.read<std::uint64_t>("a string"), "a string")));
    }
    return out;
}

std::optional<std::vector<float>> GgufFile::float_array(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (value->type != GgufType::array || value->element != GgufType::f32) {
        throw Error(key_place(key), "is not an array of F32");
    }
    std::vector<float> out(value->count);
    if (!out.empty()) {
        std::memcpy(out.data(), value->bytes.data(), out.size() * sizeof(float));
    }
    return out;
}

std::optional<std::vector<std::int64_t>> GgufFile::integer_array(std::string_view key) const {
    const auto* value = find(key);
    if (value == nullptr) {
        return std::nullopt;
    }
    if (value->type != GgufType::array) {
        throw Error(key_place(key), "is not an array of integers");
    }
    std::vector<std::int64_t> out;
    out.reserve(value->count);
    for (std::uint64_t i = 0; i < value->count; ++i) {
        const auto integer = load_integer(value->element, value->bytes, i);
        if (!integer) {
            throw Error(key_place(key), "is not an array of integers");
        }
        out.push_back(*integer);
    }
    return out;
}

std::uint32_t gguf_type_code(SourceType type) {
    for (const auto& row : kTensorTypes) {
        if (row.type == type && type != SourceType::other) {
            return row.code;
        }
    }
    throw Error("GGUF", "has no such tensor type");
}

bool looks_like_gguf(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::array<char, kMagic.size()> head{};
    in.read(head.data(), head.size());
    return in.gcount() == static_cast<std::streamsize>(head.size()) &&
           std::string_view(head.data(), head.size()) == kMagic;
}

}  // namespace m4::firmware
