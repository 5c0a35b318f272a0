// SPDX-License-Identifier: MIT
#include "image.hpp"

#include <endian.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <utility>

#include "error.hpp"
#include "places.hpp"
#include "sha256.hpp"
#include "verify.hpp"

namespace m4::firmware {

namespace {

/// "tensor 3 (byte 1234)": the table entry or field, then where it lies.
std::string describe(const m4_manifest_error& error) {
    const std::string where(error.where);
    const bool is_table = where == "tensor" || where == "segment" || where == "tree";
    return where + (is_table ? " " + std::to_string(error.index) : "") + " (byte " +
           std::to_string(error.offset) + ")";
}

std::span<const std::byte> span_of(const void* bytes, __u64 size) {
    return {static_cast<const std::byte*>(bytes), size};
}

/// An m4_sha256_fn; `ctx` is a Sha256. Exceptions stop here: C calls it.
int hash_spans(void* ctx, const void* a, __u64 a_bytes, const void* b, __u64 b_bytes, __u8* out) {
    try {
        auto& sha = *static_cast<Sha256*>(ctx);
        sha.update(span_of(a, a_bytes));
        if (b_bytes != 0) {
            sha.update(span_of(b, b_bytes));
        }
        const Digest digest = sha.finish();
        std::copy(digest.begin(), digest.end(), out);
        return 0;
    } catch (const std::exception&) {
        return -EIO;
    }
}

std::string_view padded_text(const __u8* field, std::size_t size) {
    const auto* text = reinterpret_cast<const char*>(field);
    return {text, strnlen(text, size)};
}

Digest digest_at(const __u8* bytes) {
    Digest digest{};
    std::copy_n(bytes, digest.size(), digest.begin());
    return digest;
}

/// The manifest was checked: every number is in its range.
Tensor read_tensor(const m4_manifest& manifest, const m4_image_tensor& entry) {
    Tensor tensor;
    tensor.name = {manifest.strings + le32toh(entry.name_offset), le32toh(entry.name_bytes)};
    tensor.dtype = static_cast<m4_dtype>(le16toh(entry.dtype));
    tensor.layout = static_cast<m4_layout>(le16toh(entry.layout));
    tensor.row_order = static_cast<m4_row_order>(le16toh(entry.row_order));
    tensor.rank = le16toh(entry.rank);
    tensor.head_dim = le32toh(entry.head_dim);
    tensor.part = le32toh(entry.part);
    tensor.payload_offset = le64toh(entry.payload_offset);
    tensor.size_bytes = le64toh(entry.bytes);
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
        tensor.shape[i] = le64toh(entry.shape[i]);
    }
    return tensor;
}

void require_unique_names(const std::vector<Tensor>& tensors, const std::string& place) {
    std::set<std::pair<std::uint32_t, std::string_view>> names;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        if (!names.insert({tensors[i].part, tensors[i].name}).second) {
            throw Error(place + ": tensor " + std::to_string(i),
                        "a second tensor '" + std::string(tensors[i].name) + "' of its part");
        }
    }
}

}  // namespace

std::string to_hex(std::span<const std::uint8_t> bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text;
    text.reserve(2 * bytes.size());
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4U];
        text += kDigits[byte & 15U];
    }
    return text;
}

Image Image::parse(std::span<const std::byte> manifest, const std::string& place) {
    Image image;
    m4_manifest_error error{};
    if (m4_manifest_check(manifest.data(), manifest.size(), &image.manifest_, &error) != 0) {
        throw Error(place + ": " + describe(error), error.what);
    }
    Sha256 sha;
    if (m4_manifest_check_digests(&image.manifest_, &hash_spans, &sha, &error) != 0) {
        throw Error(place + ": " + describe(error), error.what);
    }
    for (std::uint32_t i = 0; i < image.manifest_.segment_count; ++i) {
        const m4_image_segment& entry = image.manifest_.segments[i];
        image.segments_.push_back({le64toh(entry.payload_offset), le64toh(entry.bytes)});
    }
    image.tensors_.reserve(image.manifest_.tensor_count);
    for (std::uint32_t i = 0; i < image.manifest_.tensor_count; ++i) {
        image.tensors_.push_back(read_tensor(image.manifest_, image.manifest_.tensors[i]));
    }
    require_unique_names(image.tensors_, place);
    try {
        image.package_ = verify_package(
            span_of(image.manifest_.program, image.manifest_.program_bytes), image.tensors_);
    } catch (const Error& inner) {
        throw under(place, inner);
    }
    return image;
}

std::string_view Image::name() const {
    return padded_text(manifest_.header->name, M4_IMAGE_NAME_BYTES);
}

std::string_view Image::version() const {
    return padded_text(manifest_.header->version, M4_IMAGE_LABEL_BYTES);
}

Digest Image::digest() const {
    return digest_at(manifest_.digest);
}

Digest Image::root() const {
    return digest_at(manifest_.header->root);
}

std::uint64_t Image::rollback_index() const {
    return manifest_.rollback_index;
}

std::uint64_t Image::payload_bytes() const {
    return manifest_.payload_bytes;
}

const std::vector<Segment>& Image::segments() const {
    return segments_;
}

const std::vector<Tensor>& Image::tensors() const {
    return tensors_;
}

const Package& Image::package() const {
    return package_;
}

const m4_manifest& Image::manifest() const {
    return manifest_;
}

bool Image::chunk_matches(std::uint32_t index, std::span<const std::byte> chunk) const {
    if (index >= manifest_.chunk_count) {
        return false;
    }
    Sha256 sha;
    sha.update(span_of(manifest_.header->salt, M4_IMAGE_DIGEST_BYTES));
    sha.update(chunk);
    return sha.finish() == digest_at(m4_manifest_leaf(&manifest_, index));
}

}  // namespace m4::firmware
