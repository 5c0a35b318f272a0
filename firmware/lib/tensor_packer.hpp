// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "builder.hpp"

namespace m4::firmware {

/// Takes stored bytes, in order.
using ByteSink = std::function<void(std::span<const std::byte>)>;

/// Reads a tensor block by block and gives `sink` its stored bytes, exactly
/// m4_manifest_tensor_bytes() of them: padded, converted and laid out as
/// `spec` says. Throws Error naming the tensor and the element where a value
/// does not fit the stored type, and whatever a reader throws. `blocks`, where
/// there is one, gives a quantised tensor's rows in place of `rows`.
void pack_tensor(const TensorSpec& spec, const RowReader& rows, const BlockReader& blocks,
                 const ByteSink& sink);

}  // namespace m4::firmware
