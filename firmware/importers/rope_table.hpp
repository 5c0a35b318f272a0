// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/builder.hpp"

namespace m4::firmware {

/// Rows of the fine part of every rope table; a position is
/// coarse * kRopeFineRows + fine, and its rotation the product of two rows.
inline constexpr std::uint32_t kRopeFineRows = 64;

/// How the pairs of a head turn with the position.
struct RopeSettings {
    enum class Scaling {
        none,
        linear,   ///< every frequency divided by `factor`
        llama3,   ///< low frequencies divided, high ones kept, between blended
        factors,  ///< each frequency divided by its own number of `factors`
    };
    double theta = 10000.0;
    Scaling scaling = Scaling::none;
    double factor = 1.0;              ///< linear, llama3
    double low_freq_factor = 1.0;     ///< llama3
    double high_freq_factor = 4.0;    ///< llama3
    double original_context = 0.0;    ///< llama3: positions trained before stretching
    std::vector<float> factors = {};  ///< factors: one a pair
};

/// Radians a position, one a pair, for `dimensions` rotated dimensions.
[[nodiscard]] std::vector<double> rope_frequencies(const RopeSettings& settings,
                                                   std::uint32_t dimensions);

/// [fine_rows + ceil(context / fine_rows), dimensions], computed in double.
/// Columns 2i and 2i + 1 are cosine and sine of pair i: row p of the fine part
/// turns by p, row j of the coarse part by j * fine_rows.
struct RopeTable {
    std::vector<std::uint64_t> shape;
    RowReader rows;
};
[[nodiscard]] RopeTable rope_table(std::vector<double> frequencies, std::uint64_t context,
                                   std::uint32_t fine_rows = kRopeFineRows);

}  // namespace m4::firmware
