// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

#include "device.hpp"

namespace m4::vk {

/// One binding of a set: a view of a texel buffer, or a range of a buffer.
struct Binding {
    std::uint32_t index = 0;
    hpp::DescriptorType type = hpp::DescriptorType::eStorageBuffer;
    hpp::BufferView view{};
    hpp::Buffer buffer{};
    std::uint64_t offset_bytes = 0;
    std::uint64_t size_bytes = 0;
};

/// Descriptor sets, written once and kept until this is destroyed.
class Descriptors {
   public:
    /// Room for `set_count` sets of any layout of Pipelines.
    Descriptors(const Device& device, std::uint32_t set_count);

    /// A binding that no kernel will use may be left out.
    [[nodiscard]] hpp::DescriptorSet create(hpp::DescriptorSetLayout layout,
                                            std::span<const Binding> bindings);

    /// Other bindings for a set of create(), which no submitted commands use any more.
    void update(hpp::DescriptorSet set, std::span<const Binding> bindings) const;

   private:
    const Device& device_;
    hpp::raii::DescriptorPool pool_ = nullptr;
};

}  // namespace m4::vk
