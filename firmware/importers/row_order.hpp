// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "checkpoint.hpp"
#include "lib/builder.hpp"
#include "lib/rotated_rows.hpp"

namespace m4::firmware {

/// A reader of a tensor of rank 1 or 2 that turns its rows (a vector's
/// elements) from order `have` into order `want`. Keeps the checkpoint alive.
[[nodiscard]] RowReader reordered_rows(std::shared_ptr<const Checkpoint> checkpoint,
                                       const SourceTensor& tensor, std::uint32_t head_dim,
                                       m4_row_order want, m4_row_order have);

/// Likewise the blocks of a matrix that is quantised as `stored` asks; empty
/// where it is not, and its values have to be quantised.
[[nodiscard]] BlockReader reordered_blocks(std::shared_ptr<const Checkpoint> checkpoint,
                                           const SourceTensor& tensor, std::uint32_t head_dim,
                                           m4_row_order want, m4_row_order have, m4_dtype stored);

/// What a matrix is stored as where `wanted` is asked for (ImportOptions).
[[nodiscard]] m4_dtype stored_type(const SourceTensor& tensor, std::optional<m4_dtype> wanted);

}  // namespace m4::firmware
