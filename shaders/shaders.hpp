// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "lib/program.hpp"

/// The compiled kernels, from variants.table.
namespace m4::shaders {

using firmware::OpCode;

/// Kernels of the engine's own: codes that no operator of a program has.
inline constexpr OpCode kArgmax{0xffff};
inline constexpr OpCode kAttentionMerge{0xfffe};
inline constexpr OpCode kTopLogits{0xfffd};
inline constexpr OpCode kLowRank{0xfffc};

/// What a kernel reads besides values. (The underscores: generated code says
/// `<dtype of the table>_`, and f32 alone would be taken for a literal.)
enum class Dtype : std::uint8_t { any_, f32_, f16_, q8_, q4_ };

/// How a kernel reads its buffers; address: the weights, the rest as texels.
enum class Access : std::uint8_t { texel, storage, address };

/// What a kernel asks of the device beyond the baseline.
enum class Needs : std::uint8_t { nothing, subgroup8 };

struct VariantInfo {
    std::string_view name;
    OpCode op;
    Dtype dtype;
    Access access;
    std::uint32_t tile;  ///< rows of the step one lane computes
    Needs needs;
    std::span<const std::uint32_t> spirv;
};

[[nodiscard]] std::span<const VariantInfo> variants() noexcept;

/// The one row with these properties. Throws std::logic_error where the table
/// has none.
[[nodiscard]] const VariantInfo& find_variant(OpCode op, Dtype dtype, Access access,
                                              std::uint32_t tile = 1, Needs needs = Needs::nothing);

/// SHA-256 over names and code of all variants, in hex.
[[nodiscard]] std::string_view digest() noexcept;

}  // namespace m4::shaders
