// SPDX-License-Identifier: MIT
#include "gpu.hpp"

#include <cstdlib>

#include "vk/device.hpp"

namespace m4::test {

std::string test_device() {
    const char* named = std::getenv("M4_TEST_DEVICE");
    return named == nullptr ? std::string{} : std::string{named};
}

const std::string& no_device() {
    static const std::string reason = [] {
        try {
            const vk::Device device({test_device(), true});
            return std::string{};
        } catch (const vk::DeviceError& error) {
            return std::string(error.what());
        }
    }();
    return reason;
}

}  // namespace m4::test
