// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "device_choice.hpp"
#include "error.hpp"
#include "hpp.hpp"

namespace m4::vk {

struct DeviceOptions {
    std::string device;  ///< see choose_device
    bool validation = false;
    bool subgroups = true;   ///< false: as on a device without their operations (tests)
    bool timestamps = true;  ///< false: as on a device whose queue has none (tests)
};

/// What the device allows. Sizes in bytes unless named otherwise.
struct Limits {
    std::uint64_t texel_elements = 0;          ///< of one texel buffer view
    std::uint64_t storage_range = 0;           ///< of one storage buffer binding
    std::uint64_t allocation = 0;              ///< of one memory allocation and buffer
    std::uint64_t view_alignment = 0;          ///< of the start of a view or binding
    std::uint64_t host_pointer_alignment = 0;  ///< 0: no import of host memory
    bool dma_buf = false;                      ///< imports of dma-bufs are known
    std::uint32_t workgroup_lanes = 0;
    std::uint32_t workgroup_count_x = 0;
    std::uint32_t workgroup_count_y = 0;
    std::uint32_t shared_memory = 0;
    bool addresses = false;            ///< buffers have device addresses
    bool subgroup8 = false;            ///< kernels run in subgroups of 8 lanes that can shuffle
    std::uint32_t timestamp_bits = 0;  ///< of the queue's timestamps; 0: it has none
    double timestamp_ns = 0;           ///< between two of their values; 0: there are none
};

struct Identity {
    std::string device_name;
    std::string driver_name;
    std::string driver_info;
    std::string api_version;
    DeviceType type = DeviceType::other;
    std::array<std::uint8_t, 16> device_uuid{};
    std::uint32_t driver_version = 0;
    std::string render_node;  ///< "/dev/dri/renderD128"; empty: it has none
    std::string drm_driver;   ///< name and version of its kernel driver; likewise
};

/// One Vulkan device with one compute queue. One thread, save identity() and
/// limits(). Vulkan-Hpp exceptions may pass; see translate().
class Device {
   public:
    /// Throws DeviceError.
    explicit Device(const DeviceOptions& options);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    [[nodiscard]] const hpp::raii::Device& handle() const { return device_; }
    [[nodiscard]] const hpp::raii::PhysicalDevice& physical() const { return physical_; }
    [[nodiscard]] const Limits& limits() const { return limits_; }
    [[nodiscard]] const Identity& identity() const { return identity_; }

    /// A primary command buffer that may be submitted many times.
    [[nodiscard]] hpp::raii::CommandBuffer create_commands() const;
    /// Submit, in order, and wait until the device is done. Throws DeviceError.
    void run(std::span<const hpp::CommandBuffer> commands);
    void run(const hpp::raii::CommandBuffer& commands) {
        const hpp::CommandBuffer one = *commands;
        run(std::span(&one, 1));
    }
    /// Throws DeviceError with what the validation layer has said since the
    /// last call, if anything.
    void check_validation() const;

   private:
    struct Messages;
    std::unique_ptr<Messages> messages_;  // outlives the messenger
    hpp::raii::Context context_;
    hpp::raii::Instance instance_ = nullptr;
    hpp::raii::DebugUtilsMessengerEXT messenger_ = nullptr;
    hpp::raii::PhysicalDevice physical_ = nullptr;
    hpp::raii::Device device_ = nullptr;
    hpp::raii::Queue queue_ = nullptr;
    hpp::raii::CommandPool pool_ = nullptr;
    hpp::raii::Semaphore timeline_ = nullptr;
    std::uint64_t submitted_ = 0;
    Limits limits_;
    Identity identity_;

    void create_instance(bool validation);
    void choose(const std::string& wanted);
    void query_identity();
    void query_drm();
    void query_limits(bool host_pointer);
    void create_device();
};

/// Runs `work`; what Vulkan throws becomes a DeviceError.
template <typename Work>
auto translate(Work&& work) -> decltype(work()) {
    try {
        return work();
    } catch (const hpp::DeviceLostError&) {
        throw DeviceError("the Vulkan device was lost");
    } catch (const hpp::SystemError& error) {
        throw DeviceError(std::string("Vulkan failed: ") + error.what());
    }
}

}  // namespace m4::vk
