// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "operator.hpp"

namespace m4::ops {

/// The matrices of a group's linears, in order, through one binding.
struct SpanPlace {
    TensorPlace all;                   ///< binding; the shape of the first
    std::vector<std::uint32_t> units;  ///< of each, from the binding's begin
};

/// A group's operators and their places, by their order in the group.
struct GroupPlaces {
    firmware::FusionKind kind{};
    std::span<const Places> ops;
    SpanPlace weights;
};

struct Fused {
    std::unique_ptr<Operator> work;  ///< null: the group does not suit the kernels here
    std::size_t op_count = 0;        ///< operators it does, from the group's first on
};

/// The group as one dispatch. What it asks beyond its rules: matrices of one
/// type, and for RoPE heads and turned dimensions in whole vec4s.
[[nodiscard]] Fused make_fused(const Context& context, const GroupPlaces& group);

}  // namespace m4::ops
