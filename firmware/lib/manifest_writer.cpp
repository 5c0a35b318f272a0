// SPDX-License-Identifier: MIT
#include "manifest_writer.hpp"

#include <endian.h>

#include <algorithm>
#include <cstring>

#include "error.hpp"
#include "sha256.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kSaltDomain = "m4 image salt 1";
constexpr std::string_view kUuidDomain = "m4 image uuid 1";
constexpr std::size_t kRangeAlign = 8;

using Bytes = std::vector<std::byte>;

template <typename T>
std::span<const std::byte> bytes_of(const T& object) {
    return std::as_bytes(std::span(&object, 1));
}

/// Tables of a manifest, not yet placed in it.
struct Tables {
    std::vector<m4_image_segment> segments;
    std::vector<m4_image_tensor> tensors;
    std::string strings;
};

Tables encode_tables(const ManifestContent& content) {
    Tables tables;
    for (const Segment& segment : content.segments) {
        m4_image_segment entry{};
        entry.payload_offset = htole64(segment.payload_offset);
        entry.bytes = htole64(segment.size_bytes);
        tables.segments.push_back(entry);
    }
    for (const Tensor& tensor : content.tensors) {
        m4_image_tensor entry{};
        entry.name_offset = htole32(static_cast<std::uint32_t>(tables.strings.size()));
        entry.name_bytes = htole32(static_cast<std::uint32_t>(tensor.name.size()));
        entry.dtype = htole16(static_cast<std::uint16_t>(tensor.dtype));
        entry.layout = htole16(static_cast<std::uint16_t>(tensor.layout));
        entry.row_order = htole16(static_cast<std::uint16_t>(tensor.row_order));
        entry.rank = htole16(static_cast<std::uint16_t>(tensor.rank));
        entry.head_dim = htole32(tensor.head_dim);
        entry.part = htole32(tensor.part);
        entry.payload_offset = htole64(tensor.payload_offset);
        entry.bytes = htole64(tensor.size_bytes);
        for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
            entry.shape[i] = htole64(i < tensor.rank ? tensor.shape[i] : 1);
        }
        tables.tensors.push_back(entry);
        tables.strings.append(tensor.name);
        tables.strings.push_back('\0');
    }
    return tables;
}

/// All levels, leaves first, each padded to whole blocks; the root beside it.
struct Tree {
    Bytes bytes;
    Digest root{};
};

Tree build_tree(const Digest& salt, std::vector<Digest> level) {
    Tree tree;
    Sha256 sha;
    while (true) {
        const std::size_t begin = tree.bytes.size();
        for (const Digest& digest : level) {
            const auto bytes = std::as_bytes(std::span(digest));
            tree.bytes.insert(tree.bytes.end(), bytes.begin(), bytes.end());
        }
        const std::size_t partial = tree.bytes.size() % M4_IMAGE_BLOCK_BYTES;
        if (partial != 0) {
            tree.bytes.resize(tree.bytes.size() + M4_IMAGE_BLOCK_BYTES - partial);
        }
        std::vector<Digest> above;
        for (std::size_t at = begin; at < tree.bytes.size(); at += M4_IMAGE_BLOCK_BYTES) {
            sha.update(std::as_bytes(std::span(salt)));
            sha.update(std::span(tree.bytes).subspan(at, M4_IMAGE_BLOCK_BYTES));
            above.push_back(sha.finish());
        }
        if (above.size() == 1) {
            tree.root = above.front();
            return tree;
        }
        level = std::move(above);
    }
}

/// Appends a table on an 8-byte boundary and says where it went.
m4_image_range append(Bytes& manifest, std::span<const std::byte> table, std::size_t entries) {
    manifest.resize((manifest.size() + kRangeAlign - 1) / kRangeAlign * kRangeAlign);
    const m4_image_range range{htole32(static_cast<std::uint32_t>(manifest.size())),
                               htole32(static_cast<std::uint32_t>(entries))};
    manifest.insert(manifest.end(), table.begin(), table.end());
    return range;
}

/// RFC 9562 version 8: the bits are ours, here a digest of name and content.
void derive_uuid(m4_image_header& header) {
    Sha256 sha;
    sha.update(kUuidDomain);
    sha.update(bytes_of(header.name));
    sha.update(bytes_of(header.version));
    sha.update(bytes_of(header.salt));
    sha.update(bytes_of(header.root));
    const Digest digest = sha.finish();
    std::copy_n(digest.begin(), sizeof(header.uuid), header.uuid);
    header.uuid[6] = static_cast<__u8>((header.uuid[6] & 0x0fU) | 0x80U);
    header.uuid[8] = static_cast<__u8>((header.uuid[8] & 0x3fU) | 0x80U);
}

m4_image_header begin_header(const ManifestContent& content, const Digest& salt) {
    m4_image_header header{};
    std::memcpy(header.magic, M4_IMAGE_MAGIC, M4_IMAGE_MAGIC_BYTES);
    header.version_major = htole16(M4_IMAGE_VERSION_MAJOR);
    header.version_minor = htole16(M4_IMAGE_VERSION_MINOR);
    header.header_bytes = htole32(sizeof(header));
    header.payload_bytes =
        htole64(content.segments.back().payload_offset + content.segments.back().size_bytes);
    std::copy(content.name.begin(), content.name.end(), header.name);
    std::copy(content.version.begin(), content.version.end(), header.version);
    header.rollback_index = htole64(content.rollback_index);
    header.hash_algorithm = htole16(M4_IMAGE_HASH_SHA256);
    header.log2_chunk = M4_IMAGE_LOG2_CHUNK;
    header.log2_block = M4_IMAGE_LOG2_BLOCK;
    std::copy(salt.begin(), salt.end(), header.salt);
    return header;
}

}  // namespace

Digest derive_salt(const ManifestContent& content) {
    const Tables tables = encode_tables(content);
    const m4_image_header header = begin_header(content, Digest{});
    Sha256 sha;
    sha.update(kSaltDomain);
    sha.update(bytes_of(header));
    sha.update(std::as_bytes(std::span(tables.segments)));
    sha.update(std::as_bytes(std::span(tables.tensors)));
    sha.update(tables.strings);
    sha.update(content.program);
    return sha.finish();
}

std::vector<std::byte> encode_manifest(const ManifestContent& content, const Digest& salt,
                                       const std::vector<Digest>& leaves) {
    const Tables tables = encode_tables(content);
    const Tree tree = build_tree(salt, leaves);
    m4_image_header header = begin_header(content, salt);
    std::copy(tree.root.begin(), tree.root.end(), header.root);
    derive_uuid(header);

    Bytes manifest(sizeof(header));
    header.segments =
        append(manifest, std::as_bytes(std::span(tables.segments)), tables.segments.size());
    header.tensors =
        append(manifest, std::as_bytes(std::span(tables.tensors)), tables.tensors.size());
    header.strings =
        append(manifest, std::as_bytes(std::span(tables.strings)), tables.strings.size());
    header.tree = append(manifest, tree.bytes, tree.bytes.size());
    header.program = append(manifest, content.program, content.program.size());
    append(manifest, {}, 0);

    const std::size_t total = manifest.size() + sizeof(m4_image_trailer);
    if (total > M4_IMAGE_MANIFEST_SPAN) {
        throw Error(M4_IMAGE_MANIFEST_NAME,
                    "would be " + std::to_string(total) + " bytes, over 2 MiB");
    }
    header.manifest_bytes = htole64(total);
    std::memcpy(manifest.data(), &header, sizeof(header));
    Sha256 sha;
    sha.update(manifest);
    const Digest digest = sha.finish();
    const auto trailer = std::as_bytes(std::span(digest));
    manifest.insert(manifest.end(), trailer.begin(), trailer.end());
    return manifest;
}

}  // namespace m4::firmware
