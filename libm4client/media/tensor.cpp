// SPDX-License-Identifier: MIT
#include <charconv>
#include <cstring>
#include <optional>
#include <span>

#include "codecs.hpp"
#include "importers/safetensors.hpp"
#include "lib/error.hpp"

namespace m4::client_media {

namespace {

using firmware::Error;
using firmware::SourceTensor;
using Shape = std::vector<std::uint64_t>;

const std::string kMark = ".safetensors#";

/// NAME or NAME[i]. The index is behind the last bracket, for names may have brackets
/// of their own.
struct TensorName {
    std::string name;
    std::optional<std::uint64_t> index;
};

TensorName parse_name(const std::string& text, const std::string& place) {
    TensorName tensor{text, {}};
    const std::size_t bracket = text.rfind('[');
    if (bracket == std::string::npos || text.back() != ']') {
        return tensor;
    }
    const char* from = text.data() + bracket + 1;
    const char* to = text.data() + text.size() - 1;
    std::uint64_t index = 0;
    const auto [end, error] = std::from_chars(from, to, index);
    if (error != std::errc() || end != to || bracket == 0) {
        throw Error(place, "has no whole number in its brackets");
    }
    tensor.index = index;
    tensor.name.resize(bracket);
    return tensor;
}

std::uint64_t product(std::span<const std::uint64_t> shape) {
    std::uint64_t count = 1;
    for (const std::uint64_t side : shape) {
        count *= side;  // Checkpoint::add refuses what leaves 2^53
    }
    return count;
}

Media floats(const SourceTensor& tensor, const Shape& shape, std::uint64_t first, Floats of) {
    Media media;
    media.kind = of == Floats::motion ? Kind::motion_f32 : Kind::features_f32;
    const std::uint64_t count = product(shape);
    if (count > kMaxBytes / sizeof(float) || shape.back() > UINT32_MAX) {
        throw TooLarge(tensor.place(), firmware::shape_text(shape) + " is too large for an input");
    }
    media.channels = static_cast<std::uint32_t>(shape.back());
    media.samples = count / shape.back();
    std::vector<float> values(count);
    tensor.read(first, values);
    media.bytes.resize(count * sizeof(float));
    std::memcpy(media.bytes.data(), values.data(), media.bytes.size());
    return media;
}

Media pixels(const SourceTensor& tensor, const Shape& shape, std::uint64_t first) {
    const std::string place = tensor.place();
    const bool three = shape.size() == 3;
    const auto is_channels = [](std::uint64_t side) { return side == 1 || side == 3; };
    const bool behind = three && is_channels(shape[2]);
    if (shape.size() != 2 && !behind && !(three && is_channels(shape[0]))) {
        throw Error(place, firmware::shape_text(shape) +
                               " is no image: h x w, or with 1 or 3 channels before or behind");
    }
    const std::uint64_t channels = !three ? 1 : behind ? shape[2] : shape[0];
    const std::size_t at = three && !behind ? 1 : 0;  // of the height
    const std::uint64_t count = product(shape);
    if (first > tensor.bytes.size() || count > tensor.bytes.size() - first) {
        throw Error(place, "has fewer bytes than its shape says");
    }
    Media media =
        image_of(channels == 3 ? Kind::rgb8 : Kind::gray8, shape[at + 1], shape[at], place);
    media.bytes.resize(count);
    const std::uint64_t plane = count / channels;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t from = behind ? i : i % channels * plane + i / channels;
        media.bytes[i] = tensor.bytes[first + from];
    }
    return media;
}

template <typename Id>
Media tokens(const SourceTensor& tensor, const Shape& shape, std::uint64_t first) {
    const std::string place = tensor.place();
    if (shape.size() != 1) {
        throw Error(place, firmware::shape_text(shape) + " is no list of tokens");
    }
    const std::uint64_t whole = tensor.bytes.size() / sizeof(Id);
    if (first > whole || shape[0] > whole - first) {
        throw Error(place, "has fewer bytes than its shape says");
    }
    Media media;
    media.kind = Kind::tokens_u32;
    media.bytes.resize(shape[0] * sizeof(std::uint32_t));
    for (std::uint64_t i = 0; i < shape[0]; ++i) {
        Id id = 0;
        std::memcpy(&id, tensor.bytes.data() + (first + i) * sizeof(Id), sizeof id);
        if (id < 0 || static_cast<std::uint64_t>(id) > UINT32_MAX) {
            throw Error(place,
                        "token " + std::to_string(i) + ", " + std::to_string(id) + ", is no id");
        }
        const auto token = static_cast<std::uint32_t>(id);
        std::memcpy(media.bytes.data() + i * sizeof token, &token, sizeof token);
    }
    return media;
}

Media input_of(const firmware::Checkpoint& checkpoint, const TensorName& wanted, Floats of) {
    const SourceTensor* tensor = checkpoint.find(wanted.name);
    if (tensor == nullptr) {
        throw Error(checkpoint.place(), "has no tensor " + firmware::shown(wanted.name));
    }
    Shape shape = tensor->shape;
    std::uint64_t first = 0;
    if (wanted.index) {
        if (shape.empty() || *wanted.index >= shape[0]) {
            throw Error(tensor->place(), "has no item " + std::to_string(*wanted.index) +
                                             "; its shape is " + firmware::shape_text(shape));
        }
        shape.erase(shape.begin());
        first = *wanted.index * product(shape);
    }
    if (shape.empty()) {
        throw Error(tensor->place(), "is a number, no input");
    }
    if (tensor->type_name == "U8") {
        return pixels(*tensor, shape, first);
    }
    if (tensor->type_name == "I64") {
        return tokens<std::int64_t>(*tensor, shape, first);
    }
    if (tensor->type_name == "I32") {
        return tokens<std::int32_t>(*tensor, shape, first);
    }
    if (tensor->type_name != "F32" && tensor->type_name != "F16") {
        throw Error(tensor->place(),
                    "has type " + tensor->type_name + "; inputs are F32, F16, U8, I32 or I64");
    }
    return floats(*tensor, shape, first, of);
}

}  // namespace

bool names_tensor(const std::string& reference) {
    return reference.find(kMark) != std::string::npos;
}

Media load_tensor(const std::string& text, Floats of) {
    const std::size_t at = text.find(kMark);
    if (at == std::string::npos || at + kMark.size() == text.size()) {
        throw Error(text, "is not FILE.safetensors#NAME or FILE.safetensors#NAME[i]");
    }
    return load_tensor(text.substr(0, at + kMark.size() - 1), text.substr(at + kMark.size()), of);
}

Media load_tensor(const std::string& file, const std::string& tensor, Floats of) {
    const TensorName wanted = parse_name(tensor, firmware::shown(tensor));
    firmware::Checkpoint checkpoint(file);
    firmware::add_safetensors(file, checkpoint);
    return input_of(checkpoint, wanted, of);
}

Media decode_tensor(std::span<const std::byte> file, const std::string& place,
                    const std::string& tensor, Floats of) {
    const TensorName wanted = parse_name(tensor, firmware::shown(tensor));
    firmware::Checkpoint checkpoint(place);
    firmware::add_safetensors(file, place, checkpoint);
    return input_of(checkpoint, wanted, of);
}

}  // namespace m4::client_media
