// SPDX-License-Identifier: MIT
#include "checkpoint.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <tuple>
#include <utility>

#include "lib/error.hpp"
#include "lib/half.hpp"

namespace m4::firmware {

namespace {

/// Elements may lie unaligned in a safetensors file, hence memcpy.
template <typename Convert>
void read_halves(const std::byte* from, std::span<float> out, Convert convert) {
    for (std::size_t i = 0; i < out.size(); ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, from + i * sizeof(bits), sizeof(bits));
        out[i] = convert(bits);
    }
}

/// bfloat16 is the upper half of a float; exact.
float from_bfloat(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16U);
}

}  // namespace

SourceBlock source_block(SourceType type) {
    switch (type) {
        case SourceType::f32:
            return {1, 4};
        case SourceType::f16:
        case SourceType::bf16:
            return {1, 2};
        case SourceType::q8_0:
            return {32, 34};
        case SourceType::q4_0:
            return {32, 18};
        case SourceType::computed:
        case SourceType::other:
            break;
    }
    return {};
}

std::uint64_t source_bytes(SourceType type, std::span<const std::uint64_t> shape,
                           const std::string& place) {
    const SourceBlock block = source_block(type);
    const std::uint64_t count = checked_element_count(shape, place);
    const std::uint64_t columns = shape.empty() ? 1 : shape.back();  // a scalar has no shape
    if (columns % block.elements != 0) {
        throw Error(place, "rows of " + std::to_string(columns) +
                               " elements are not whole blocks of " +
                               std::to_string(block.elements));
    }
    return count / block.elements * block.bytes;
}

std::uint64_t SourceTensor::element_count() const {
    std::uint64_t count = 1;
    for (const auto extent : shape) {
        count *= extent;
    }
    return count;
}

std::string SourceTensor::place() const {
    return file + ": tensor " + shown(name);
}

void SourceTensor::read(std::uint64_t first, std::span<float> out) const {
    if (type == SourceType::other) {
        throw Error(place(), "has type " + type_name +
                                 "; this version imports F32, F16, BF16, Q8_0 and Q4_0");
    }
    const std::uint64_t count = element_count();
    if (first > count || out.size() > count - first) {
        throw Error(place(), "read beyond the end");
    }
    if (out.empty()) {
        return;
    }
    const std::byte* from = bytes.data() + first * source_block(type).bytes;
    switch (type) {
        case SourceType::f32:
            std::memcpy(out.data(), from, out.size_bytes());
            break;
        case SourceType::f16:
            read_halves(from, out, from_half);
            break;
        case SourceType::bf16:
            read_halves(from, out, from_bfloat);
            break;
        case SourceType::q8_0:
        case SourceType::q4_0:
            read_quantized(first, out);
            break;
        case SourceType::computed:
            compute(first, out);
            break;
        case SourceType::other:
            break;
    }
}

void SourceTensor::read_quantized(std::uint64_t first, std::span<float> out) const {
    std::array<float, M4_IMAGE_QUANT_ELEMENTS> values{};
    while (!out.empty()) {
        QuantBlock block;
        read_blocks(first / values.size(), {&block, 1});
        dequantize(block, values);
        const std::span<const float> rest = std::span(values).subspan(first % values.size());
        const std::size_t count = std::min(rest.size(), out.size());
        std::copy_n(rest.begin(), count, out.begin());
        first += count;
        out = out.subspan(count);
    }
}

void SourceTensor::read_blocks(std::uint64_t first, std::span<QuantBlock> out) const {
    const bool q8 = type == SourceType::q8_0;
    const std::uint64_t size = source_block(type).bytes;
    if ((!q8 && type != SourceType::q4_0) || first > bytes.size() / size ||
        out.size() > bytes.size() / size - first) {
        throw Error(place(), "no such blocks");
    }
    const std::byte* from = bytes.data() + first * size;
    for (QuantBlock& block : out) {
        std::memcpy(&block.scale, from, sizeof(block.scale));
        const std::byte* quants = from + sizeof(block.scale);
        const std::size_t half = block.quants.size() / 2;
        for (std::size_t i = 0; i < block.quants.size(); ++i) {
            const auto byte = std::to_integer<int>(quants[q8 ? i : i % half]);
            // Q4_0: the low nibbles are the first half of the block.
            block.quants[i] = static_cast<std::int8_t>(q8         ? byte
                                                       : i < half ? (byte & 15) - 8
                                                                  : (byte >> 4) - 8);
        }
        from += size;
    }
}

std::span<const std::byte> Checkpoint::adopt(MappedFile file) {
    files_.push_back(std::move(file));
    return files_.back().bytes();
}

void Checkpoint::add(SourceTensor tensor) {
    const std::uint64_t size = source_bytes(tensor.type, tensor.shape, tensor.place());
    if (tensor.type != SourceType::other && tensor.bytes.size() != size) {
        throw Error(tensor.place(), "shape " + shape_text(tensor.shape) + " of " +
                                        tensor.type_name + " is not its " +
                                        std::to_string(tensor.bytes.size()) + " bytes");
    }
    if (!by_name_.emplace(tensor.name, tensors_.size()).second) {
        throw Error(tensor.place(), "occurs twice");
    }
    tensors_.push_back(std::move(tensor));
}

const SourceTensor* Checkpoint::find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

const SourceTensor& Checkpoint::of_rank(const std::string& name, std::size_t rank) const {
    const SourceTensor* tensor = find(name);
    if (tensor == nullptr || tensor->shape.size() != rank) {
        throw Error(place_ + ": tensor '" + name + "'",
                    "is missing or not of rank " + std::to_string(rank));
    }
    return *tensor;
}

void refuse_overlaps(std::vector<ByteRange> ranges, const std::string& place) {
    std::sort(ranges.begin(), ranges.end(), [](const ByteRange& a, const ByteRange& b) {
        return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
    });
    for (std::size_t i = 1; i < ranges.size(); ++i) {
        if (ranges[i].begin < ranges[i - 1].end) {
            throw Error(place, "tensors " + shown(ranges[i - 1].name) + " and " +
                                   shown(ranges[i].name) + " overlap");
        }
    }
}

std::uint64_t checked_element_count(std::span<const std::uint64_t> shape,
                                    const std::string& place) {
    constexpr std::uint64_t kMost = 1ULL << 53;
    std::uint64_t count = 1;
    for (const auto extent : shape) {
        if (extent == 0) {
            throw Error(place, "shape " + shape_text(shape) + " has an extent of 0");
        }
        if (extent > kMost / count) {
            throw Error(place, "shape " + shape_text(shape) + " is too large");
        }
        count *= extent;
    }
    return count;
}

std::string shape_text(std::span<const std::uint64_t> shape) {
    std::string out = "[";
    for (std::size_t i = 0; i < shape.size(); ++i) {
        out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
    }
    return out + "]";
}

}  // namespace m4::firmware
