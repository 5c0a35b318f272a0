// SPDX-License-Identifier: MIT
#include "effect.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "lib/half.hpp"

namespace m4::firmware {

namespace {

/// Vectors at once: their squared results average to the squared norm, and one of
/// them that happens to lie in a's null space is not all of them.
constexpr std::size_t kVectors = 4;
using Lanes = std::array<double, kVectors>;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), for numbers that are the same
/// everywhere.
class Numbers {
   public:
    /// Uniform, of mean 0 and variance 1.
    double next() {
        state_ += 0x9E37'79B9'7F4A'7C15U;
        std::uint64_t z = state_;
        z = (z ^ (z >> 30U)) * 0xBF58'476D'1CE4'E5B9U;
        z = (z ^ (z >> 27U)) * 0x94D0'49BB'1331'11EBU;
        z ^= z >> 31U;
        const double unit = static_cast<double>(z >> 11U) * 0x1p-53;
        return (2 * unit - 1) * std::sqrt(3.0);
    }

   private:
    std::uint64_t state_ = 0x4D34'6164;
};

double element(std::span<const std::byte> bytes, m4_dtype dtype, std::uint64_t index) {
    if (dtype == M4_DTYPE_F16) {
        std::uint16_t half = 0;
        std::memcpy(&half, bytes.data() + index * sizeof(half), sizeof(half));
        return from_half(half);
    }
    float value = 0;
    std::memcpy(&value, bytes.data() + index * sizeof(value), sizeof(value));
    return value;
}

/// A factor [rows, columns] times a vector in each lane; *squares gathers its elements'.
std::vector<Lanes> apply(std::span<const std::byte> factor, m4_dtype dtype, std::uint64_t rows,
                         std::uint64_t columns, const std::vector<Lanes>& x, double* squares) {
    std::vector<Lanes> out(rows);
    for (std::uint64_t r = 0; r < rows; ++r) {
        Lanes sum{};
        for (std::uint64_t c = 0; c < columns; ++c) {
            const double value = element(factor, dtype, r * columns + c);
            *squares += value * value;
            for (std::size_t lane = 0; lane < kVectors; ++lane) {
                sum.at(lane) += value * x[c].at(lane);
            }
        }
        out[r] = sum;
    }
    return out;
}

double delta_norm(const LowRankPair& pair) {
    Numbers numbers;
    std::vector<Lanes> x(pair.columns);
    for (Lanes& lanes : x) {
        for (double& value : lanes) {
            value = numbers.next();
        }
    }
    double a_squares = 0;
    double b_squares = 0;
    x = apply(pair.a, pair.dtype, pair.rank, pair.columns, x, &a_squares);
    x = apply(pair.b, pair.dtype, pair.rows, pair.rank, x, &b_squares);
    double squares = 0;
    for (const Lanes& lanes : x) {
        for (const double value : lanes) {
            squares += value * value;
        }
    }
    const double norm = std::sqrt(squares / kVectors);
    // Factors that cancel leave only what double has rounded.
    constexpr double kRounding = 1e-12;
    const double bound = kRounding * std::sqrt(a_squares) * std::sqrt(b_squares);
    return norm <= bound ? 0 : std::abs(double{pair.scale}) * norm;
}

/// Every delta of `count` pairs is zero.
std::string nothing_changes(std::size_t count, const std::string& first) {
    return "changes nothing: scale * b * a is zero in all " + std::to_string(count) +
           " pairs that match, first in '" + first + "'";
}

}  // namespace

std::vector<double> delta_norms(const Adapter& adapter) {
    std::vector<double> norms;
    norms.reserve(adapter.pairs.size());
    for (const LowRankPair& pair : adapter.pairs) {
        norms.push_back(delta_norm(pair));
    }
    return norms;
}

std::string effect_fault(const Adapter& adapter, const AdapterMatch& match,
                         std::span<const double> norms) {
    if (adapter.head && match.fault.empty()) {
        return {};
    }
    std::string first;
    for (std::size_t i = 0; i < match.pairs.size() && i < norms.size(); ++i) {
        if (!match.pairs[i].tensor) {
            continue;
        }
        if (norms[i] > 0) {
            return {};
        }
        if (first.empty()) {
            first = adapter.pairs[i].tensor;
        }
    }
    return match.matched == 0 ? "changes nothing: " + match.summary
                              : nothing_changes(match.matched, first);
}

std::string effect_fault(const Adapter& adapter, std::span<const double> norms) {
    const bool acts = std::any_of(norms.begin(), norms.end(), [](double norm) { return norm > 0; });
    return acts || adapter.head || adapter.pairs.empty()
               ? std::string{}
               : nothing_changes(norms.size(), adapter.pairs.front().tensor);
}

}  // namespace m4::firmware
