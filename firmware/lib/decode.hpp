// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>

#include "program.hpp"

namespace m4::firmware {

/// Structs of a program blob: FlatBuffers structure, counts, and whatever the
/// structs cannot hold (unknown types, missing or doubled attributes) are
/// checked here; the meaning is not. Throws Error.
Package decode_package(std::span<const std::byte> blob);

}  // namespace m4::firmware
