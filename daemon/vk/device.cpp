// SPDX-License-Identifier: MIT
#include "device.hpp"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "drm.hpp"

namespace m4::vk {

namespace {

constexpr const char* kValidationLayer = "VK_LAYER_KHRONOS_validation";
constexpr std::uint32_t kApiVersion = VK_API_VERSION_1_2;
/// A step that takes longer hangs. The slowest honest one, 64 rows of a
/// 1 B-parameter model on a CPU driver, takes some seconds.
constexpr std::uint64_t kStepTimeoutNs = 120ULL * 1'000'000'000ULL;

/// Storage buffers a kernel may bind: values, step, KV pool, two tensors.
constexpr std::uint32_t kStorageBuffers = 6;

DeviceType type_of(hpp::PhysicalDeviceType type) {
    switch (type) {
        case hpp::PhysicalDeviceType::eDiscreteGpu:
            return DeviceType::discrete;
        case hpp::PhysicalDeviceType::eIntegratedGpu:
            return DeviceType::integrated;
        case hpp::PhysicalDeviceType::eVirtualGpu:
            return DeviceType::virtual_gpu;
        case hpp::PhysicalDeviceType::eCpu:
            return DeviceType::cpu;
        default:
            return DeviceType::other;
    }
}

std::string version_text(std::uint32_t version) {
    return std::to_string(VK_API_VERSION_MAJOR(version)) + "." +
           std::to_string(VK_API_VERSION_MINOR(version)) + "." +
           std::to_string(VK_API_VERSION_PATCH(version));
}

bool has_extension(const hpp::raii::PhysicalDevice& physical, const char* name) {
    const auto all = physical.enumerateDeviceExtensionProperties();
    return std::any_of(all.begin(), all.end(), [&](const hpp::ExtensionProperties& extension) {
        return std::strcmp(extension.extensionName, name) == 0;
    });
}

/// Family of a queue that computes, or nothing. A family without graphics is
/// taken where there is one: it disturbs the desktop least.
std::int64_t compute_family(const hpp::raii::PhysicalDevice& physical) {
    const auto families = physical.getQueueFamilyProperties();
    std::int64_t found = -1;
    for (std::size_t i = 0; i < families.size(); ++i) {
        const hpp::QueueFlags flags = families[i].queueFlags;
        if (!(flags & hpp::QueueFlagBits::eCompute)) {
            continue;
        }
        if (!(flags & hpp::QueueFlagBits::eGraphics)) {
            return static_cast<std::int64_t>(i);
        }
        found = found < 0 ? static_cast<std::int64_t>(i) : found;
    }
    return found;
}

std::string refusal_of(const hpp::raii::PhysicalDevice& physical) {
    const hpp::PhysicalDeviceProperties properties = physical.getProperties();
    if (properties.apiVersion < kApiVersion) {
        return "Vulkan " + version_text(properties.apiVersion) + " is older than 1.2";
    }
    const auto features =
        physical.getFeatures2<hpp::PhysicalDeviceFeatures2, hpp::PhysicalDeviceVulkan12Features>();
    if (!features.get<hpp::PhysicalDeviceVulkan12Features>().timelineSemaphore) {
        return "no timeline semaphores";
    }
    if (properties.limits.maxPerStageDescriptorStorageBuffers < kStorageBuffers) {
        return "fewer than " + std::to_string(kStorageBuffers) + " storage buffers a kernel";
    }
    if (compute_family(physical) < 0) {
        return "no compute queue";
    }
    return {};
}

}  // namespace

struct Device::Messages {
    std::mutex mutex;  // layers may call from any thread that calls Vulkan
    std::string text;

    static VKAPI_ATTR VkBool32 VKAPI_CALL
    receive(VkDebugUtilsMessageSeverityFlagBitsEXT /*severity*/,
            VkDebugUtilsMessageTypeFlagsEXT /*types*/,
            const VkDebugUtilsMessengerCallbackDataEXT* data, void* self) {
        auto* messages = static_cast<Messages*>(self);
        const std::lock_guard lock(messages->mutex);
        messages->text += (messages->text.empty() ? "" : "\n") + std::string(data->pMessage);
        return VK_FALSE;
    }
};

Device::Device(const DeviceOptions& options) try : messages_(std::make_unique<Messages>()) {
    create_instance(options.validation);
    choose(options.device);
    create_device();
    limits_.subgroup8 = limits_.subgroup8 && options.subgroups;
    limits_.timestamp_bits = options.timestamps ? limits_.timestamp_bits : 0;
    check_validation();
} catch (const hpp::SystemError& error) {
    throw DeviceError(std::string("cannot open a Vulkan device: ") + error.what());
} catch (const DeviceError&) {
    throw;
} catch (const std::runtime_error& error) {  // from Vulkan-Hpp's loader
    throw DeviceError(std::string("cannot open Vulkan: ") + error.what());
}

Device::~Device() = default;

void Device::create_instance(bool validation) {
    const hpp::ApplicationInfo application{
        .pApplicationName = "m4d", .pEngineName = "m4", .apiVersion = kApiVersion};
    std::vector<const char*> layers;
    std::vector<const char*> extensions;
    if (validation) {
        const auto all = context_.enumerateInstanceLayerProperties();
        if (std::none_of(all.begin(), all.end(), [](const hpp::LayerProperties& layer) {
                return std::strcmp(layer.layerName, kValidationLayer) == 0;
            })) {
            throw DeviceError("the Vulkan validation layer is not installed");
        }
        layers.push_back(kValidationLayer);
        extensions.push_back(VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
    }
    // Only what the layer finds: the loader's own remarks are of other drivers.
    using Severity = hpp::DebugUtilsMessageSeverityFlagBitsEXT;
    using Type = hpp::DebugUtilsMessageTypeFlagBitsEXT;
    const hpp::DebugUtilsMessengerCreateInfoEXT messenger{
        .messageSeverity = Severity::eWarning | Severity::eError,
        .messageType = Type::eValidation | Type::ePerformance,
        .pfnUserCallback = &Messages::receive,
        .pUserData = messages_.get()};
    instance_ = hpp::raii::Instance(
        context_, hpp::InstanceCreateInfo{
                      .pNext = validation ? &messenger : nullptr,
                      .pApplicationInfo = &application,
                      .enabledLayerCount = static_cast<std::uint32_t>(layers.size()),
                      .ppEnabledLayerNames = layers.data(),
                      .enabledExtensionCount = static_cast<std::uint32_t>(extensions.size()),
                      .ppEnabledExtensionNames = extensions.data()});
    if (validation) {
        messenger_ = hpp::raii::DebugUtilsMessengerEXT(instance_, messenger);
    }
}

void Device::choose(const std::string& wanted) {
    std::vector<hpp::raii::PhysicalDevice> physicals;
    try {
        for (hpp::raii::PhysicalDevice& physical : hpp::raii::PhysicalDevices(instance_)) {
            physicals.push_back(std::move(physical));
        }
    } catch (const hpp::InitializationFailedError&) {
        // What the loader says where no driver has a device: none then.
    }
    std::vector<Candidate> candidates;
    for (const hpp::raii::PhysicalDevice& physical : physicals) {
        const hpp::PhysicalDeviceProperties properties = physical.getProperties();
        candidates.push_back(
            {properties.deviceName.data(), type_of(properties.deviceType), refusal_of(physical)});
    }
    physical_ = std::move(physicals[choose_device(candidates, wanted)]);
    query_identity();
}

void Device::query_identity() {
    const auto chain =
        physical_
            .getProperties2<hpp::PhysicalDeviceProperties2, hpp::PhysicalDeviceVulkan11Properties,
                            hpp::PhysicalDeviceDriverProperties>();
    const auto& properties = chain.get<hpp::PhysicalDeviceProperties2>().properties;
    const auto& driver = chain.get<hpp::PhysicalDeviceDriverProperties>();
    identity_.device_name = properties.deviceName.data();
    identity_.driver_name = driver.driverName.data();
    identity_.driver_info = driver.driverInfo.data();
    identity_.api_version = version_text(properties.apiVersion);
    identity_.type = type_of(properties.deviceType);
    identity_.driver_version = properties.driverVersion;
    const auto& uuid = chain.get<hpp::PhysicalDeviceVulkan11Properties>().deviceUUID;
    std::copy(uuid.begin(), uuid.end(), identity_.device_uuid.begin());
    if (has_extension(physical_, VK_EXT_PHYSICAL_DEVICE_DRM_EXTENSION_NAME)) {
        query_drm();
    }
}

void Device::query_drm() {
    const auto numbers =
        physical_
            .getProperties2<hpp::PhysicalDeviceProperties2, hpp::PhysicalDeviceDrmPropertiesEXT>()
            .get<hpp::PhysicalDeviceDrmPropertiesEXT>();
    if (numbers.hasRender == VK_TRUE) {
        identity_.render_node =
            drm::find_node(drm::render_nodes(), {numbers.renderMajor, numbers.renderMinor});
        identity_.drm_driver =
            identity_.render_node.empty() ? "" : drm::driver_of(identity_.render_node);
    }
}

void Device::query_limits(bool host_pointer) {
    const auto chain = physical_.getProperties2<hpp::PhysicalDeviceProperties2,
                                                hpp::PhysicalDeviceMaintenance3Properties>();
    const auto& limits = chain.get<hpp::PhysicalDeviceProperties2>().properties.limits;
    limits_.texel_elements = limits.maxTexelBufferElements;
    limits_.storage_range = limits.maxStorageBufferRange;
    limits_.allocation =
        chain.get<hpp::PhysicalDeviceMaintenance3Properties>().maxMemoryAllocationSize;
    limits_.view_alignment =
        std::max(limits.minTexelBufferOffsetAlignment, limits.minStorageBufferOffsetAlignment);
    limits_.workgroup_lanes =
        std::min(limits.maxComputeWorkGroupInvocations, limits.maxComputeWorkGroupSize[0]);
    limits_.workgroup_count_x = limits.maxComputeWorkGroupCount[0];
    limits_.workgroup_count_y = limits.maxComputeWorkGroupCount[1];
    limits_.shared_memory = limits.maxComputeSharedMemorySize;
    limits_.timestamp_ns = static_cast<double>(limits.timestampPeriod);
    const auto subgroup =
        physical_
            .getProperties2<hpp::PhysicalDeviceProperties2, hpp::PhysicalDeviceSubgroupProperties>()
            .get<hpp::PhysicalDeviceSubgroupProperties>();
    limits_.subgroup8 = subgroup.subgroupSize == 8 &&
                        (subgroup.supportedStages & hpp::ShaderStageFlagBits::eCompute) &&
                        (subgroup.supportedOperations & hpp::SubgroupFeatureFlagBits::eShuffle);
    if (host_pointer) {
        limits_.host_pointer_alignment =
            physical_
                .getProperties2<hpp::PhysicalDeviceProperties2,
                                hpp::PhysicalDeviceExternalMemoryHostPropertiesEXT>()
                .get<hpp::PhysicalDeviceExternalMemoryHostPropertiesEXT>()
                .minImportedHostPointerAlignment;
    }
}

void Device::create_device() {
    const auto family = static_cast<std::uint32_t>(compute_family(physical_));
    const bool host_pointer = has_extension(physical_, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    std::vector<const char*> extensions;
    if (host_pointer) {
        extensions.push_back(VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    }
    limits_.dma_buf = has_extension(physical_, VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME) &&
                      has_extension(physical_, VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
    if (limits_.dma_buf) {
        extensions.push_back(VK_KHR_EXTERNAL_MEMORY_FD_EXTENSION_NAME);
        extensions.push_back(VK_EXT_EXTERNAL_MEMORY_DMA_BUF_EXTENSION_NAME);
    }
    query_limits(host_pointer);
    limits_.timestamp_bits = physical_.getQueueFamilyProperties()[family].timestampValidBits;
    limits_.addresses =
        physical_.getFeatures2<hpp::PhysicalDeviceFeatures2, hpp::PhysicalDeviceVulkan12Features>()
            .get<hpp::PhysicalDeviceVulkan12Features>()
            .bufferDeviceAddress;
    const float priority = 1.0F;
    const hpp::DeviceQueueCreateInfo queue{
        .queueFamilyIndex = family, .queueCount = 1, .pQueuePriorities = &priority};
    const hpp::PhysicalDeviceVulkan12Features features{.timelineSemaphore = VK_TRUE,
                                                       .bufferDeviceAddress = limits_.addresses};
    device_ = hpp::raii::Device(
        physical_, hpp::DeviceCreateInfo{
                       .pNext = &features,
                       .queueCreateInfoCount = 1,
                       .pQueueCreateInfos = &queue,
                       .enabledExtensionCount = static_cast<std::uint32_t>(extensions.size()),
                       .ppEnabledExtensionNames = extensions.data()});
    queue_ = device_.getQueue(family, 0);
    pool_ = hpp::raii::CommandPool(
        device_,
        hpp::CommandPoolCreateInfo{.flags = hpp::CommandPoolCreateFlagBits::eResetCommandBuffer,
                                   .queueFamilyIndex = family});
    const hpp::SemaphoreTypeCreateInfo timeline{.semaphoreType = hpp::SemaphoreType::eTimeline};
    timeline_ = hpp::raii::Semaphore(device_, hpp::SemaphoreCreateInfo{.pNext = &timeline});
}

hpp::raii::CommandBuffer Device::create_commands() const {
    hpp::raii::CommandBuffers buffers(
        device_, hpp::CommandBufferAllocateInfo{.commandPool = *pool_,
                                                .level = hpp::CommandBufferLevel::ePrimary,
                                                .commandBufferCount = 1});
    return std::move(buffers.front());
}

void Device::run(std::span<const hpp::CommandBuffer> commands) {
    const std::uint64_t value = ++submitted_;
    const hpp::TimelineSemaphoreSubmitInfo timeline{.signalSemaphoreValueCount = 1,
                                                    .pSignalSemaphoreValues = &value};
    const hpp::Semaphore semaphore = *timeline_;
    queue_.submit(hpp::SubmitInfo{.pNext = &timeline,
                                  .commandBufferCount = static_cast<std::uint32_t>(commands.size()),
                                  .pCommandBuffers = commands.data(),
                                  .signalSemaphoreCount = 1,
                                  .pSignalSemaphores = &semaphore});
    const hpp::Result result = device_.waitSemaphores(
        hpp::SemaphoreWaitInfo{.semaphoreCount = 1, .pSemaphores = &semaphore, .pValues = &value},
        kStepTimeoutNs);
    if (result != hpp::Result::eSuccess) {
        throw DeviceError("the Vulkan device did not finish a step within " +
                          std::to_string(kStepTimeoutNs / 1'000'000'000ULL) + " s");
    }
    check_validation();
}

void Device::check_validation() const {
    std::string text;
    {
        const std::lock_guard lock(messages_->mutex);
        text.swap(messages_->text);
    }
    if (!text.empty()) {
        throw DeviceError("Vulkan validation: " + text);
    }
}

}  // namespace m4::vk
