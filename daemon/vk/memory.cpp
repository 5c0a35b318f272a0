// SPDX-License-Identifier: MIT
#include "memory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <vector>

namespace m4::vk {

namespace {

using Property = hpp::MemoryPropertyFlagBits;

/// Acceptable properties of a kind, best first.
std::vector<hpp::MemoryPropertyFlags> preferences(MemoryKind kind) {
    switch (kind) {
        case MemoryKind::device:
            return {Property::eDeviceLocal, {}};
        case MemoryKind::upload:
            return {Property::eHostVisible | Property::eHostCoherent | Property::eDeviceLocal,
                    Property::eHostVisible | Property::eHostCoherent};
        case MemoryKind::readback:
            return {Property::eHostVisible | Property::eHostCoherent | Property::eHostCached,
                    Property::eHostVisible | Property::eHostCoherent};
    }
    return {};
}

std::uint32_t find_type(const Device& device, std::uint32_t allowed, MemoryKind kind) {
    const hpp::PhysicalDeviceMemoryProperties all = device.physical().getMemoryProperties();
    for (const hpp::MemoryPropertyFlags wanted : preferences(kind)) {
        for (std::uint32_t i = 0; i < all.memoryTypeCount; ++i) {
            if ((allowed >> i & 1U) != 0 && (all.memoryTypes[i].propertyFlags & wanted) == wanted) {
                return i;
            }
        }
    }
    throw DeviceError("the Vulkan device has no memory of a kind that is needed");
}

/// What a buffer of this use asks of its memory; part of a chain.
hpp::MemoryAllocateFlagsInfo flags_for(hpp::BufferUsageFlags usage) {
    const bool addressed =
        static_cast<bool>(usage & hpp::BufferUsageFlagBits::eShaderDeviceAddress);
    return {.flags = addressed ? hpp::MemoryAllocateFlagBits::eDeviceAddress
                               : hpp::MemoryAllocateFlags{}};
}

constexpr auto kDmaBuf = hpp::ExternalMemoryHandleTypeFlagBits::eDmaBufEXT;

hpp::raii::Buffer dma_buf_buffer(const Device& device, std::uint64_t size_bytes,
                                 hpp::BufferUsageFlags usage) {
    const hpp::ExternalMemoryBufferCreateInfo external{.handleTypes = kDmaBuf};
    return {device.handle(),
            hpp::BufferCreateInfo{.pNext = &external, .size = size_bytes, .usage = usage}};
}

}  // namespace

Buffer::Buffer(const Device& device, std::uint64_t size_bytes, hpp::BufferUsageFlags usage,
               MemoryKind kind)
    : size_bytes_(size_bytes),
      buffer_(device.handle(), hpp::BufferCreateInfo{.size = size_bytes, .usage = usage}) {
    const hpp::MemoryRequirements needs = buffer_.getMemoryRequirements();
    const hpp::MemoryAllocateFlagsInfo flags = flags_for(usage);
    memory_ = hpp::raii::DeviceMemory(
        device.handle(),
        hpp::MemoryAllocateInfo{.pNext = &flags,
                                .allocationSize = needs.size,
                                .memoryTypeIndex = find_type(device, needs.memoryTypeBits, kind)});
    buffer_.bindMemory(*memory_, 0);
    if (kind != MemoryKind::device) {
        mapped_ = {static_cast<std::byte*>(memory_.mapMemory(0, VK_WHOLE_SIZE)), size_bytes};
    }
}

Buffer Buffer::import_host(const Device& device, std::span<const std::byte> pages,
                           hpp::BufferUsageFlags usage) {
    constexpr auto kHandle = hpp::ExternalMemoryHandleTypeFlagBits::eHostAllocationEXT;
    const hpp::ExternalMemoryBufferCreateInfo external{.handleTypes = kHandle};
    Buffer result;
    result.size_bytes_ = pages.size();
    result.buffer_ = hpp::raii::Buffer(
        device.handle(),
        hpp::BufferCreateInfo{.pNext = &external, .size = pages.size(), .usage = usage});
    const hpp::MemoryRequirements needs = result.buffer_.getMemoryRequirements();
    // The device only reads: Vulkan has no const pointer to say so.
    void* address = const_cast<std::byte*>(pages.data());
    const hpp::MemoryHostPointerPropertiesEXT pointer =
        device.handle().getMemoryHostPointerPropertiesEXT(kHandle, address);
    const std::uint32_t allowed = needs.memoryTypeBits & pointer.memoryTypeBits;
    if (needs.size > pages.size() || allowed == 0) {
        throw DeviceError("the Vulkan driver cannot use these pages as they are");
    }
    const hpp::MemoryAllocateFlagsInfo flags = flags_for(usage);
    const hpp::ImportMemoryHostPointerInfoEXT import{
        .pNext = &flags, .handleType = kHandle, .pHostPointer = address};
    result.memory_ = hpp::raii::DeviceMemory(
        device.handle(),
        hpp::MemoryAllocateInfo{.pNext = &import,
                                .allocationSize = pages.size(),
                                .memoryTypeIndex = find_type(device, allowed, MemoryKind::device)});
    result.buffer_.bindMemory(*result.memory_, 0);
    return result;
}

std::uint64_t Buffer::dma_buf_bytes(const Device& device, std::uint64_t size_bytes,
                                    hpp::BufferUsageFlags usage) {
    if (!device.limits().dma_buf) {
        throw DeviceError("the driver has no " VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
    }
    const hpp::ExternalBufferProperties can = device.physical().getExternalBufferProperties(
        hpp::PhysicalDeviceExternalBufferInfo{.usage = usage, .handleType = kDmaBuf});
    if (!(can.externalMemoryProperties.externalMemoryFeatures &
          hpp::ExternalMemoryFeatureFlagBits::eImportable)) {
        throw DeviceError("the driver imports no dma-buf for buffers of this use");
    }
    return dma_buf_buffer(device, size_bytes, usage).getMemoryRequirements().size;
}

Buffer Buffer::import_dma_buf(const Device& device, int fd, std::uint64_t size_bytes,
                              hpp::BufferUsageFlags usage) {
    Buffer result;
    result.size_bytes_ = size_bytes;
    result.buffer_ = dma_buf_buffer(device, size_bytes, usage);
    const hpp::MemoryRequirements needs = result.buffer_.getMemoryRequirements();
    const std::uint32_t allowed =
        needs.memoryTypeBits & device.handle().getMemoryFdPropertiesKHR(kDmaBuf, fd).memoryTypeBits;
    if (allowed == 0) {
        throw DeviceError("the Vulkan driver cannot use a dma-buf of this memory");
    }
    // The driver takes the descriptor it is given, but only when it succeeds.
    const int given = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (given < 0) {
        throw DeviceError("a dma-buf's descriptor cannot be duplicated");
    }
    const hpp::MemoryAllocateFlagsInfo flags = flags_for(usage);
    const hpp::MemoryDedicatedAllocateInfo dedicated{.pNext = &flags, .buffer = *result.buffer_};
    const hpp::ImportMemoryFdInfoKHR import{
        .pNext = &dedicated, .handleType = kDmaBuf, .fd = given};
    try {
        result.memory_ = hpp::raii::DeviceMemory(
            device.handle(), hpp::MemoryAllocateInfo{.pNext = &import,
                                                     .allocationSize = needs.size,
                                                     .memoryTypeIndex = find_type(
                                                         device, allowed, MemoryKind::device)});
    } catch (...) {
        ::close(given);
        throw;
    }
    result.buffer_.bindMemory(*result.memory_, 0);
    return result;
}

std::uint64_t Buffer::address(const Device& device) const {
    return device.handle().getBufferAddress(hpp::BufferDeviceAddressInfo{.buffer = *buffer_});
}

hpp::raii::BufferView create_view(const Device& device, const Buffer& buffer, hpp::Format format,
                                  std::uint64_t offset, std::uint64_t size_bytes) {
    return {
        device.handle(),
        hpp::BufferViewCreateInfo{
            .buffer = buffer.handle(), .format = format, .offset = offset, .range = size_bytes}};
}

}  // namespace m4::vk
