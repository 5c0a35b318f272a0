// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <array>
#include <cstdio>
#include <string>

namespace m4::firmware {

/// File name of shard `index`.
inline std::string segment_name(std::size_t index) {
    std::array<char, 32> name{};
    std::snprintf(name.data(), name.size(), M4_IMAGE_SEGMENT_FORMAT, static_cast<unsigned>(index));
    return name.data();
}

}  // namespace m4::firmware
