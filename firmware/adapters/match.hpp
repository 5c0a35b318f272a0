// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapter.hpp"

namespace m4::firmware {

/// Where one pair goes.
struct PairMatch {
    std::optional<std::uint32_t> tensor;  ///< index in the image
    std::string fault;                    ///< why there is none: "no such tensor"
};

/// Where an adapter goes, in one image.
struct AdapterMatch {
    std::optional<std::uint32_t> part;  ///< index in the package
    std::vector<PairMatch> pairs;       ///< as the adapter's
    std::string fault;                  ///< why no part is its base, or its head fits none
    std::size_t matched = 0;            ///< pairs with a tensor
    std::string summary;                ///< one sentence, whatever came of it

    /// There is a part, every pair has its tensor, and the head its input.
    [[nodiscard]] bool complete() const {
        return part.has_value() && fault.empty() && matched == pairs.size();
    }
};

/// A bound adapter is for the part of its source digest, and no other; an unbound one
/// for the part that most of its names are of. A pair's tensor has its name and shape,
/// and is used as the weight of a `linear` and as nothing else. Throws nothing of its own.
[[nodiscard]] AdapterMatch match_adapter(const Adapter& adapter, const Package& package,
                                         std::span<const Tensor> tensors);
[[nodiscard]] AdapterMatch match_adapter(const Adapter& adapter, const Image& image);

}  // namespace m4::firmware
