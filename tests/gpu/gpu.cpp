// SPDX-License-Identifier: MIT
#include "gpu.hpp"

#include <cstdlib>

#include "vk/device.hpp"

/// Read by the leak checker where it is linked: modules that are not ours.
extern "C" const char* __lsan_default_suppressions();   // NOLINT(bugprone-reserved-identifier)
extern "C" const char* __lsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
    return "leak:libvulkan\nleak:libVkLayer\nleak:libLLVM\n";
}

namespace m4::test {

namespace {

/// Never closed: drivers and layers stay loaded to the end, so that the leak
/// checker can tell their leaks from ours.
[[gnu::used]] const vk::Device* held_device = nullptr;

}  // namespace

std::string test_device() {
    const char* named = std::getenv("M4_TEST_DEVICE");
    return named == nullptr ? std::string{} : std::string{named};
}

const std::string& no_device() {
    static const std::string reason = [] {
        try {
            held_device = new vk::Device({test_device(), true});
            return std::string{};
        } catch (const vk::DeviceError& error) {
            return std::string(error.what());
        }
    }();
    return reason;
}

}  // namespace m4::test
