// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>
#include <m4/manifest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "file.hpp"
#include "program.hpp"

namespace m4::firmware {

using Digest = std::array<std::uint8_t, M4_IMAGE_DIGEST_BYTES>;

[[nodiscard]] std::string to_hex(std::span<const std::uint8_t> bytes);

/// A tensor of the manifest, host-endian. `name` points into the manifest.
struct Tensor {
    std::string_view name;
    m4_dtype dtype{};
    m4_layout layout{};
    m4_row_order row_order{};
    std::uint32_t head_dim = 0;
    std::uint32_t part = 0;
    std::uint32_t rank = 0;
    std::array<std::uint64_t, M4_IMAGE_RANK_MAX> shape{};
    std::uint64_t payload_offset = 0;  ///< bytes from the payload's start
    std::uint64_t size_bytes = 0;      ///< stored, layout padding included
};

struct Segment {
    std::uint64_t payload_offset = 0;
    std::uint64_t size_bytes = 0;
};

/// A checked manifest with its package decoded and verified. Owns nothing of
/// the mapped bytes: the span given to parse() must outlive it. Immutable, so
/// any thread may read it.
class Image {
   public:
    /// Structure, digests (trailer, tree to root), FlatBuffers, programs: all
    /// checked, in this order. `manifest` is the file's bytes exactly.
    /// Throws Error naming the place. Payload bytes are not touched.
    static Image parse(std::span<const std::byte> manifest, const std::string& place);

    [[nodiscard]] std::string_view name() const;
    [[nodiscard]] std::string_view version() const;
    [[nodiscard]] Digest digest() const;  ///< of the manifest: names the image
    [[nodiscard]] Digest root() const;
    [[nodiscard]] std::uint64_t rollback_index() const;
    [[nodiscard]] std::uint64_t payload_bytes() const;
    [[nodiscard]] const std::vector<Segment>& segments() const;
    [[nodiscard]] const std::vector<Tensor>& tensors() const;
    [[nodiscard]] const Package& package() const;
    [[nodiscard]] const m4_manifest& manifest() const;

    /// Check payload chunk `index` (2 MiB) against the tree; false: altered.
    [[nodiscard]] bool chunk_matches(std::uint32_t index, std::span<const std::byte> chunk) const;

   private:
    m4_manifest manifest_{};
    std::vector<Segment> segments_;
    std::vector<Tensor> tensors_;
    Package package_;
};

/// An image folder on disk, mapped read-only into ONE reservation in the
/// device's layout: the manifest at byte 0 (zero padded to
/// M4_IMAGE_MANIFEST_SPAN), the payload behind it, shards side by side.
/// Movable; unmaps on destruction. Thread-safe once constructed.
class MappedImage {
   public:
    /// Called from open_folder's own threads after each checked chunk.
    using Progress = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

    /// Map and check every byte (chunks hashed in parallel). Throws Error.
    static MappedImage open_folder(const std::filesystem::path& folder,
                                   const Progress& progress = {});
    /// Map the kernel's device; its bytes were verified by the module, so only
    /// the manifest is checked again here. Throws Error.
    static MappedImage open_device(const std::filesystem::path& node);

    MappedImage(MappedImage&& other) noexcept;
    MappedImage& operator=(MappedImage&& other) noexcept;
    MappedImage(const MappedImage&) = delete;
    MappedImage& operator=(const MappedImage&) = delete;
    ~MappedImage();

    [[nodiscard]] const Image& image() const { return image_; }
    [[nodiscard]] std::span<const std::byte> payload() const;
    /// All that is mapped: the manifest's span, then the payload.
    [[nodiscard]] std::span<const std::byte> mapping() const { return {base_, mapped_bytes_}; }
    /// The node's descriptor, which names the generation that is mapped; -1
    /// for a folder. The image's own.
    [[nodiscard]] int device_fd() const { return device_.get(); }
    /// Stored bytes of a tensor. `tensor` belongs to image().
    [[nodiscard]] std::span<const std::byte> bytes(const Tensor& tensor) const;

   private:
    MappedImage() = default;
    std::byte* base_ = nullptr;
    std::size_t mapped_bytes_ = 0;
    UniqueFd device_;
    Image image_;
};

}  // namespace m4::firmware
