// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device.hpp"

namespace m4::vk {

enum class MemoryKind {
    device,    ///< only the device touches it
    upload,    ///< the host writes, the device reads; mapped, coherent
    readback,  ///< the device writes, the host reads; mapped, coherent
};

/// A buffer with its own memory. Move-only; must not outlive its Device.
class Buffer {
   public:
    Buffer() = default;
    /// Throws DeviceError or what Vulkan throws.
    Buffer(const Device& device, std::uint64_t size_bytes, hpp::BufferUsageFlags usage,
           MemoryKind kind);

    /// A buffer over the host's own pages, read by the device where they lie.
    /// Address and size are multiples of Limits::host_pointer_alignment; the
    /// pages must outlive the buffer. Throws what Vulkan throws, and
    /// DeviceError where the driver wants other memory.
    static Buffer import_host(const Device& device, std::span<const std::byte> pages,
                              hpp::BufferUsageFlags usage);

    /// Bytes of dma-buf that the driver wants under a buffer of this size: the
    /// size, or somewhat more. Throws DeviceError where it imports none.
    [[nodiscard]] static std::uint64_t dma_buf_bytes(const Device& device, std::uint64_t size_bytes,
                                                     hpp::BufferUsageFlags usage);
    /// A buffer over the beginning of a dma-buf, which is of at least
    /// dma_buf_bytes(). The descriptor stays the caller's; the buffer keeps the
    /// memory. Throws as import_host does.
    static Buffer import_dma_buf(const Device& device, int fd, std::uint64_t size_bytes,
                                 hpp::BufferUsageFlags usage);

    [[nodiscard]] hpp::Buffer handle() const { return *buffer_; }
    /// Of a buffer made for use by its address.
    [[nodiscard]] std::uint64_t address(const Device& device) const;
    [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
    /// Of upload and readback buffers; else empty.
    [[nodiscard]] std::span<std::byte> mapped() const { return mapped_; }

   private:
    std::uint64_t size_bytes_ = 0;
    hpp::raii::DeviceMemory memory_ = nullptr;  // freed after the buffer
    hpp::raii::Buffer buffer_ = nullptr;
    std::span<std::byte> mapped_;
};

/// A texel buffer view of bytes [offset, offset + size) of a buffer.
[[nodiscard]] hpp::raii::BufferView create_view(const Device& device, const Buffer& buffer,
                                                hpp::Format format, std::uint64_t offset,
                                                std::uint64_t size_bytes);

}  // namespace m4::vk
