// SPDX-License-Identifier: MIT
#pragma once

// The one place that includes Vulkan. The loader is opened at run time, so a
// machine without Vulkan gets a DeviceError, not a failure to start.
#define VULKAN_HPP_DISPATCH_LOADER_DYNAMIC 1
#define VULKAN_HPP_NO_STRUCT_CONSTRUCTORS 1
#include <vulkan/vulkan_raii.hpp>

namespace m4 {

/// Vulkan-Hpp's own namespace is `vk`, as is ours inside m4.
namespace hpp = ::vk;

}  // namespace m4
