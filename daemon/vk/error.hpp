// SPDX-License-Identifier: MIT
#pragma once

#include <stdexcept>

namespace m4::vk {

/// The device failed or was lost, or lacks what is needed. what() is a
/// sentence for people.
class DeviceError : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

}  // namespace m4::vk
