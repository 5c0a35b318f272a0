// SPDX-License-Identifier: MIT
#include "step_memory.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace m4::ops {

namespace {

/// Heads that do not fill whole units are read past the end of the last row.
constexpr std::uint64_t kSlackBytes = 256;

using Usage = hpp::BufferUsageFlagBits;

}  // namespace

std::uint64_t StepMemory::largest_kv_bytes(const vk::Device& device) {
    const vk::Limits& limits = device.limits();
    const std::uint64_t addressed =
        std::max(limits.texel_elements * kUnitBytes, limits.storage_range);
    return std::min(addressed, limits.allocation) / kUnitBytes * kUnitBytes;
}

StepMemory::StepMemory(const vk::Device& device, const vk::Pipelines& pipelines, const Sizes& sizes,
                       const StepWords& words, bool force_storage)
    : descriptors_(device, 1) {
    const vk::Limits& limits = device.limits();
    const std::uint64_t step_bytes = std::uint64_t{words.count} * sizeof(std::uint32_t);
    const std::uint64_t value_bytes = sizes.value_bytes + kSlackBytes;
    if (value_bytes > limits.storage_range) {
        throw vk::DeviceError("values of " + std::to_string(sizes.max_rows) +
                              " rows take more than a storage buffer of the device holds (" +
                              std::to_string(limits.storage_range) +
                              " bytes): lower max_step_rows");
    }
    values_texel_ = !force_storage && value_bytes / kUnitBytes <= limits.texel_elements;
    kv_texel_ = !force_storage && sizes.kv_bytes / kUnitBytes <= limits.texel_elements &&
                words.candidates <= limits.texel_elements;
    if (step_bytes > limits.storage_range ||
        (!kv_texel_ && sizes.kv_bytes > limits.storage_range)) {
        throw vk::DeviceError("page tables of " + std::to_string(sizes.max_rows) +
                              " sequences of " + std::to_string(words.table_pages) +
                              " pages take more than a buffer of the device holds beside the KV "
                              "pool: lower max_step_rows");
    }

    values_ = vk::Buffer(device, value_bytes,
                         Usage::eUniformTexelBuffer | Usage::eStorageBuffer | Usage::eTransferSrc |
                             Usage::eTransferDst,
                         vk::MemoryKind::device);
    step_ = vk::Buffer(device, step_bytes, Usage::eUniformTexelBuffer | Usage::eStorageBuffer,
                       vk::MemoryKind::upload);
    kv_ = vk::Buffer(device, std::max(sizes.kv_bytes, kUnitBytes),
                     Usage::eUniformTexelBuffer | Usage::eStorageTexelBuffer |
                         Usage::eStorageBuffer | Usage::eTransferSrc | Usage::eTransferDst,
                     vk::MemoryKind::device);
    words_ = {reinterpret_cast<std::uint32_t*>(step_.mapped().data()), words.count};

    using Type = hpp::DescriptorType;
    std::vector<vk::Binding> bindings = {
        {1, Type::eStorageBuffer, {}, values_.handle(), 0, value_bytes},
        {2, Type::eStorageBuffer, {}, step_.handle(), 0, step_.size_bytes()}};
    // Kernels may name ways that they do not go: each names something.
    const std::uint64_t kv_texels =
        std::min(kv_.size_bytes() / kUnitBytes, limits.texel_elements) * kUnitBytes;
    const std::uint64_t step_texels =
        std::min<std::uint64_t>(words.candidates, limits.texel_elements) * sizeof(std::uint32_t);
    kv_view_ = create_view(device, kv_, hpp::Format::eR32G32B32A32Uint, 0, kv_texels);
    step_view_ = create_view(device, step_, hpp::Format::eR32Uint, 0, step_texels);
    bindings.push_back({3, Type::eUniformTexelBuffer, *kv_view_});
    bindings.push_back({4, Type::eStorageTexelBuffer, *kv_view_});
    bindings.push_back({5,
                        Type::eStorageBuffer,
                        {},
                        kv_.handle(),
                        0,
                        std::min(kv_.size_bytes(), limits.storage_range)});
    bindings.push_back({6, Type::eUniformTexelBuffer, *step_view_});
    if (values_texel_) {
        values_view_ =
            create_view(device, values_, hpp::Format::eR32G32B32A32Sfloat, 0, value_bytes);
        bindings.push_back({0, Type::eUniformTexelBuffer, *values_view_});
    }
    no_adapters_ =
        vk::Buffer(device, kUnitBytes, Usage::eUniformTexelBuffer | Usage::eStorageBuffer,
                   vk::MemoryKind::upload);
    adapters_view_ = create_view(device, no_adapters_, hpp::Format::eR32G32B32A32Uint, 0,
                                 no_adapters_.size_bytes());
    bindings.push_back({7, Type::eUniformTexelBuffer, *adapters_view_});
    bindings.push_back(
        {8, Type::eStorageBuffer, {}, no_adapters_.handle(), 0, no_adapters_.size_bytes()});
    set_ = descriptors_.create(pipelines.step_layout(), bindings);
}

void StepMemory::set_adapters(const vk::Device& device, const vk::Buffer& pool) {
    const std::uint64_t texels =
        std::min(pool.size_bytes() / kUnitBytes, device.limits().texel_elements) * kUnitBytes;
    adapters_view_ = create_view(device, pool, hpp::Format::eR32G32B32A32Uint, 0, texels);
    using Type = hpp::DescriptorType;
    const std::vector<vk::Binding> bindings = {
        {7, Type::eUniformTexelBuffer, *adapters_view_},
        {8,
         Type::eStorageBuffer,
         {},
         pool.handle(),
         0,
         std::min(pool.size_bytes(), device.limits().storage_range)}};
    descriptors_.update(set_, bindings);
}

}  // namespace m4::ops
