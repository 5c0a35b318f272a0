// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "adapter.hpp"

/// What an adapter may say, apart from where its bytes lie.
namespace m4::firmware {

/// Name, texts, and that it holds something. Throws Error.
void check_texts(const Adapter& adapter);

/// Numbers of a pair whose name and type are; `place` names it. Throws Error.
void check_pair(const LowRankPair& pair, const std::string& place);

/// Stored bytes of a head's tensor of known type and layout. Throws Error where its
/// shape has none.
[[nodiscard]] std::uint64_t checked_head_bytes(const Tensor& tensor, const std::string& place);

/// Throws Error naming the first element that is infinite or no number.
void require_finite(std::span<const std::byte> bytes, m4_dtype dtype, const std::string& place);

}  // namespace m4::firmware
