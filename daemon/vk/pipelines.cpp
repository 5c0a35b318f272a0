// SPDX-License-Identifier: MIT
#include "pipelines.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <thread>

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
    constexpr std::array kStep = {
        Type::eUniformTexelBuffer, Type::eStorageBuffer,      Type::eStorageBuffer,
        Type::eUniformTexelBuffer, Type::eStorageTexelBuffer, Type::eStorageBuffer,
        Type::eUniformTexelBuffer, Type::eUniformTexelBuffer, Type::eStorageBuffer};
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

Kernel* Pipelines::get(const shaders::VariantInfo& variant,
                       std::span<const std::uint32_t> constants) {
    if (constants.empty() || constants.size() > kMaxSpecialization) {
        throw std::logic_error("a kernel has 1 to " + std::to_string(kMaxSpecialization) +
                               " specialisation constants");
    }
    Kernel& kernel = kernels_[Key{&variant, {constants.begin(), constants.end()}}];
    kernel.variant = &variant;
    kernel.constants.assign(constants.begin(), constants.end());
    return &kernel;
}

std::size_t Pipelines::compiled() const {
    return static_cast<std::size_t>(
        std::count_if(kernels_.begin(), kernels_.end(),
                      [](const auto& entry) { return static_cast<bool>(*entry.second.pipeline); }));
}

void Pipelines::compile(std::span<Kernel* const> kernels) {
    std::vector<Kernel*> wanted;
    for (Kernel* kernel : kernels) {
        if (!*kernel->pipeline && std::find(wanted.begin(), wanted.end(), kernel) == wanted.end()) {
            wanted.push_back(kernel);
        }
    }
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
        for (std::size_t i = next++; i < wanted.size(); i = next++) {
            wanted[i]->pipeline = create(*wanted[i]);
        }
    };
    std::vector<std::future<void>> helpers;
    const std::size_t processors = std::max(1U, std::thread::hardware_concurrency());
    while (helpers.size() + 1 < std::min(wanted.size(), processors)) {
        helpers.push_back(std::async(std::launch::async, work));
    }
    // Whoever fails, all have ended before anything is thrown.
    std::exception_ptr failure;
    try {
        work();
    } catch (...) {
        failure = std::current_exception();
    }
    for (std::future<void>& helper : helpers) {
        try {
            helper.get();
        } catch (...) {
            failure = std::current_exception();
        }
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

hpp::raii::Pipeline Pipelines::create(const Kernel& kernel) const {
    const std::span<const std::uint32_t> constants = kernel.constants;
    std::array<hpp::SpecializationMapEntry, kMaxSpecialization> entries;
    for (std::uint32_t i = 0; i < constants.size(); ++i) {
        entries[i] = hpp::SpecializationMapEntry{.constantID = i, .offset = i * 4, .size = 4};
    }
    const hpp::SpecializationInfo specialization{
        .mapEntryCount = static_cast<std::uint32_t>(constants.size()),
        .pMapEntries = entries.data(),
        .dataSize = constants.size_bytes(),
        .pData = constants.data()};
    const std::span<const std::uint32_t> spirv = kernel.variant->spirv;
    const hpp::raii::ShaderModule module(
        device_.handle(),
        hpp::ShaderModuleCreateInfo{.codeSize = spirv.size_bytes(), .pCode = spirv.data()});
    return {device_.handle(), cache_.handle(),
            hpp::ComputePipelineCreateInfo{.stage = {.stage = hpp::ShaderStageFlagBits::eCompute,
                                                     .module = *module,
                                                     .pName = "main",
                                                     .pSpecializationInfo = &specialization},
                                           .layout = *layout_}};
}

}  // namespace m4::vk
