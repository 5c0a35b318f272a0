// SPDX-License-Identifier: MIT
#include "descriptors.hpp"

#include <array>
#include <vector>

namespace m4::vk {

Descriptors::Descriptors(const Device& device, std::uint32_t set_count) : device_(device) {
    // The step's set, the largest, has 4 + 1 + 4 of these.
    const std::array sizes = {
        hpp::DescriptorPoolSize{.type = hpp::DescriptorType::eUniformTexelBuffer,
                                .descriptorCount = 4 * set_count},
        hpp::DescriptorPoolSize{.type = hpp::DescriptorType::eStorageTexelBuffer,
                                .descriptorCount = set_count},
        hpp::DescriptorPoolSize{.type = hpp::DescriptorType::eStorageBuffer,
                                .descriptorCount = 4 * set_count}};
    pool_ = hpp::raii::DescriptorPool(
        device.handle(),
        hpp::DescriptorPoolCreateInfo{.maxSets = set_count,
                                      .poolSizeCount = static_cast<std::uint32_t>(sizes.size()),
                                      .pPoolSizes = sizes.data()});
}

hpp::DescriptorSet Descriptors::create(hpp::DescriptorSetLayout layout,
                                       std::span<const Binding> bindings) {
    const hpp::DescriptorSetAllocateInfo allocate{
        .descriptorPool = *pool_, .descriptorSetCount = 1, .pSetLayouts = &layout};
    // Freed with the pool, all at once; so not wrapped one by one.
    const hpp::DescriptorSet set =
        (*device_.handle()).allocateDescriptorSets(allocate, *device_.handle().getDispatcher())[0];
    update(set, bindings);
    return set;
}

void Descriptors::update(hpp::DescriptorSet set, std::span<const Binding> bindings) const {
    std::vector<hpp::DescriptorBufferInfo> buffers(bindings.size());
    std::vector<hpp::WriteDescriptorSet> writes;
    for (std::size_t i = 0; i < bindings.size(); ++i) {
        const Binding& binding = bindings[i];
        buffers[i].buffer = binding.buffer;
        buffers[i].offset = binding.offset_bytes;
        buffers[i].range = binding.size_bytes;
        writes.push_back({.dstSet = set,
                          .dstBinding = binding.index,
                          .descriptorCount = 1,
                          .descriptorType = binding.type,
                          .pBufferInfo = &buffers[i],
                          .pTexelBufferView = &binding.view});
    }
    device_.handle().updateDescriptorSets(writes, {});
}

}  // namespace m4::vk
