// SPDX-License-Identifier: MIT
#include "pipelines.hpp"

#include <array>
#include <stdexcept>
#include <string>

namespace m4::vk {

namespace {

using Type = hpp::DescriptorType;

hpp::raii::DescriptorSetLayout create_set_layout(const Device& device,
                                                 std::span<const Type> types) {
    std::vector<hpp::DescriptorSetLayoutBinding> bindings;
    for (std::size_t i = 0; i < types.size(); ++i) {
        bindings.push_back({.binding = static_cast<std::uint32_t>(i),
                            .descriptorType = types[i],
                            .descriptorCount = 1,
                            .stageFlags = hpp::ShaderStageFlagBits::eCompute});
    }
    return {device.handle(), hpp::DescriptorSetLayoutCreateInfo{
                                 .bindingCount = static_cast<std::uint32_t>(bindings.size()),
                                 .pBindings = bindings.data()}};
}

}  // namespace

Pipelines::Pipelines(const Device& device, const std::filesystem::path& cache_folder)
    : device_(device), cache_(device, cache_folder, shaders::digest()) {
    constexpr std::array kStep = {Type::eUniformTexelBuffer, Type::eStorageBuffer,
                                  Type::eStorageBuffer,      Type::eUniformTexelBuffer,
                                  Type::eStorageTexelBuffer, Type::eStorageBuffer};
    constexpr std::array kTensor = {Type::eUniformTexelBuffer, Type::eStorageBuffer};
    step_layout_ = create_set_layout(device, kStep);
    tensor_layout_ = create_set_layout(device, kTensor);
    const std::array sets = {*step_layout_, *tensor_layout_, *tensor_layout_, *tensor_layout_};
    const hpp::PushConstantRange push{.stageFlags = hpp::ShaderStageFlagBits::eCompute,
                                      .size = kPushBytes};
    layout_ = hpp::raii::PipelineLayout(
        device.handle(),
        hpp::PipelineLayoutCreateInfo{.setLayoutCount = static_cast<std::uint32_t>(sets.size()),
                                      .pSetLayouts = sets.data(),
                                      .pushConstantRangeCount = 1,
                                      .pPushConstantRanges = &push});
}

hpp::Pipeline Pipelines::get(const shaders::VariantInfo& variant,
                             std::span<const std::uint32_t> constants) {
    if (constants.empty() || constants.size() > kMaxSpecialization) {
        throw std::logic_error("a kernel has 1 to " + std::to_string(kMaxSpecialization) +
                               " specialisation constants");
    }
    Key key{&variant, {constants.begin(), constants.end()}};
    if (const auto found = pipelines_.find(key); found != pipelines_.end()) {
        return *found->second;
    }
    std::array<hpp::SpecializationMapEntry, kMaxSpecialization> entries;
    for (std::uint32_t i = 0; i < constants.size(); ++i) {
        entries[i] = hpp::SpecializationMapEntry{.constantID = i, .offset = i * 4, .size = 4};
    }
    const hpp::SpecializationInfo specialization{
        .mapEntryCount = static_cast<std::uint32_t>(constants.size()),
        .pMapEntries = entries.data(),
        .dataSize = constants.size_bytes(),
        .pData = constants.data()};
    const hpp::raii::ShaderModule module(
        device_.handle(), hpp::ShaderModuleCreateInfo{.codeSize = variant.spirv.size_bytes(),
                                                      .pCode = variant.spirv.data()});
    hpp::raii::Pipeline pipeline(
        device_.handle(), cache_.handle(),
        hpp::ComputePipelineCreateInfo{.stage = {.stage = hpp::ShaderStageFlagBits::eCompute,
                                                 .module = *module,
                                                 .pName = "main",
                                                 .pSpecializationInfo = &specialization},
                                       .layout = *layout_});
    return *pipelines_.emplace(std::move(key), std::move(pipeline)).first->second;
}

}  // namespace m4::vk
