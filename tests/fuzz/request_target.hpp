// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace m4::fuzz {

/// A message as m4d gets it. The first byte: whether a descriptor comes with it, of a
/// memfd that holds as many of the frame's own last bytes; 255: of a pipe.
[[nodiscard]] std::vector<std::uint8_t> pack_request(std::uint8_t memfd_bytes,
                                                     std::span<const std::byte> frame);

/// Decodes it and makes a command of it. Aborts where what comes of it breaks a promise of
/// ipc/dispatch.hpp. Returns whether it is a request.
bool check_request(std::span<const std::uint8_t> bytes);

/// Every message of the protocol with every field set, and one with a descriptor.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> request_seeds();

}  // namespace m4::fuzz
