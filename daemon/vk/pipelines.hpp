// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "device.hpp"
#include "pipeline_cache.hpp"
#include "shaders/shaders.hpp"

namespace m4::vk {

/// A kernel variant with its specialisation. Known from the first request for
/// it on, compiled by Pipelines::compile.
struct Kernel {
    const shaders::VariantInfo* variant = nullptr;
    std::vector<std::uint32_t> constants;
    hpp::raii::Pipeline pipeline = nullptr;
};

/// Compute pipelines by kernel variant and specialisation. All share one
/// layout, so that descriptor sets stay bound from kernel to kernel:
///
///   set 0  0 values, uniform texel   1 values, storage   2 step words, storage
///          3 KV, uniform texel       4 KV, storage texel 5 KV, storage
///          6 step words, uniform texel
///          7 adapters, uniform texel  8 adapters, storage
///   set 1  a tensor: 0 uniform texel, 1 storage
///   set 2  the operator's second tensor, likewise
///   set 3  its third
///   push constants: kPushBytes, as much as every device has
class Pipelines {
   public:
    static constexpr std::uint32_t kPushBytes = 128;
    static constexpr std::uint32_t kMaxSpecialization = 10;

    Pipelines(const Device& device, const std::filesystem::path& cache_folder);

    [[nodiscard]] hpp::DescriptorSetLayout step_layout() const { return *step_layout_; }
    [[nodiscard]] hpp::DescriptorSetLayout tensor_layout() const { return *tensor_layout_; }
    [[nodiscard]] hpp::PipelineLayout layout() const { return *layout_; }

    /// `constants[i]` is specialisation constant i; constant 0 is the
    /// workgroup's lanes. The same kernel for the same request, kept as long as
    /// this; not compiled by the request.
    [[nodiscard]] Kernel* get(const shaders::VariantInfo& variant,
                              std::span<const std::uint32_t> constants);
    /// Compile those that are not compiled yet, several at once on threads of
    /// their own. Throws what the driver refuses the first of them with.
    void compile(std::span<Kernel* const> kernels);
    [[nodiscard]] std::size_t known() const { return kernels_.size(); }
    [[nodiscard]] std::size_t compiled() const;

    /// Write the cache file if new pipelines were compiled.
    void save_cache() { cache_.save(); }
    [[nodiscard]] const PipelineCache& cache() const { return cache_; }

   private:
    using Key = std::pair<const shaders::VariantInfo*, std::vector<std::uint32_t>>;

    [[nodiscard]] hpp::raii::Pipeline create(const Kernel& kernel) const;

    const Device& device_;
    PipelineCache cache_;
    hpp::raii::DescriptorSetLayout step_layout_ = nullptr;
    hpp::raii::DescriptorSetLayout tensor_layout_ = nullptr;
    hpp::raii::PipelineLayout layout_ = nullptr;
    std::map<Key, Kernel> kernels_;
};

}  // namespace m4::vk
