// SPDX-License-Identifier: MIT
#pragma once

#include <span>
#include <string>
#include <vector>

#include "match.hpp"

/// Whether an adapter does anything: one whose every delta is zero loads as well as any
/// other, and is what an inert training run leaves.
namespace m4::firmware {

/// Of each pair the Frobenius norm of scale * b * a, estimated by applying it to a few
/// random vectors of unit variance (always the same ones), in double. 0: the pair
/// changes nothing, exactly or but for rounding.
[[nodiscard]] std::vector<double> delta_norms(const Adapter& adapter);

/// Why nothing of it that matches changes anything; empty: something does. A head does.
[[nodiscard]] std::string effect_fault(const Adapter& adapter, const AdapterMatch& match,
                                       std::span<const double> norms);

/// The same before there is a base: all pairs count.
[[nodiscard]] std::string effect_fault(const Adapter& adapter, std::span<const double> norms);

}  // namespace m4::firmware
