// SPDX-License-Identifier: MIT
#include "rope_recovery.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <optional>
#include <vector>

#include "lib/error.hpp"

namespace m4::firmware {

namespace {

constexpr double kDefaultTheta = 10000.0;
/// Two roundings to F32 of a number of at most 1, and some.
constexpr double kTableTolerance = 4e-7;
constexpr int kNeighbours = 4;
constexpr int kMostDigits = 7;

class Recovery {
   public:
    Recovery(std::span<const float> table, std::uint32_t dimensions, std::uint32_t fine_rows)
        : table_(table),
          dimensions_(dimensions),
          fine_rows_(fine_rows),
          rows_(table.size() / dimensions) {
        for (std::uint32_t pair = 0; pair < dimensions / 2; ++pair) {
            frequencies_.push_back(frequency(pair));
        }
    }

    [[nodiscard]] std::optional<RopeSettings> run() const {
        const double theta = likely_theta();
        const double factor = frequencies_.empty() ? 1.0 : 1.0 / frequencies_.front();
        for (const double base : candidates(theta)) {
            RopeSettings settings;
            settings.theta = base;
            if (gives_table(settings)) {
                return settings;
            }
            settings.scaling = RopeSettings::Scaling::linear;
            for (const double divisor : candidates(factor)) {
                settings.factor = divisor;
                if (gives_table(settings)) {
                    return settings;
                }
            }
        }
        return with_factors(candidates(theta).front());
    }

   private:
    [[nodiscard]] double position(std::size_t row) const {
        return static_cast<double>(row < fine_rows_ ? row : (row - fine_rows_) * fine_rows_);
    }

    [[nodiscard]] double angle(std::size_t row, std::uint32_t pair) const {
        const float* at = &table_[row * dimensions_ + 2 * std::size_t{pair}];
        return std::atan2(at[1], at[0]);
    }

    /// Radians a position: read from the first turn, then from ever farther
    /// ones, whose whole turns are known by then.
    [[nodiscard]] double frequency(std::uint32_t pair) const {
        constexpr double kTurn = 2.0 * std::numbers::pi;
        const auto refine = [&](double known, std::size_t row) {
            const double turns = std::round((known * position(row) - angle(row, pair)) / kTurn);
            return (turns * kTurn + angle(row, pair)) / position(row);
        };
        double known = fine_rows_ > 1 ? angle(1, pair) : angle(fine_rows_ + 1, pair);
        for (std::size_t row = 2; row < fine_rows_; row *= 2) {
            known = refine(known, row);
        }
        for (std::size_t row = 1; fine_rows_ + row < rows_; row *= 2) {
            known = refine(known, fine_rows_ + row);
        }
        return known;
    }

    /// By the pairs' ratios, from those that scaling changes least.
    [[nodiscard]] double likely_theta() const {
        if (frequencies_.size() < 2) {
            return kDefaultTheta;
        }
        return std::pow(frequencies_[0] / frequencies_[1], dimensions_ / 2.0);
    }

    /// What may have been written down for a number known to some digits: few
    /// decimals, else an F32 nearby.
    static std::vector<double> candidates(double about) {
        std::vector<double> out;
        if (!(about > 0.0) || !std::isfinite(about)) {
            return {kDefaultTheta};
        }
        for (int digits = 1; digits <= kMostDigits; ++digits) {
            const double step = std::pow(10.0, std::floor(std::log10(about)) + 1 - digits);
            const double round = std::round(about / step) * step;
            if (std::abs(round - about) < 1e-5 * about) {
                out.push_back(static_cast<double>(static_cast<float>(round)));
            }
        }
        auto below = static_cast<float>(about);
        auto above = below;
        out.push_back(static_cast<double>(below));
        for (int i = 0; i < kNeighbours; ++i) {
            below = std::nextafter(below, 0.0F);
            above = std::nextafter(above, HUGE_VALF);
            out.push_back(static_cast<double>(below));
            out.push_back(static_cast<double>(above));
        }
        return out;
    }

    [[nodiscard]] bool gives_table(const RopeSettings& settings) const {
        return deviation(rope_frequencies(settings, dimensions_)) == 0.0;
    }

    [[nodiscard]] double deviation(const std::vector<double>& frequencies) const {
        const auto made = rope_table(frequencies, (rows_ - fine_rows_) * fine_rows_, fine_rows_);
        std::vector<float> row(dimensions_);
        double most = 0.0;
        for (std::size_t i = 0; i < rows_; ++i) {
            made.rows(i, 1, row);
            for (std::size_t column = 0; column < row.size(); ++column) {
                const double off = std::abs(static_cast<double>(row[column]) -
                                            static_cast<double>(table_[i * dimensions_ + column]));
                most = std::isnan(off) ? HUGE_VAL : std::max(most, off);
            }
        }
        return most;
    }

    [[nodiscard]] std::optional<RopeSettings> with_factors(double theta) const {
        const bool positive = std::all_of(frequencies_.begin(), frequencies_.end(),
                                          [](double value) { return value > 0.0; });
        if (!positive || deviation(frequencies_) > kTableTolerance) {
            return std::nullopt;
        }
        RopeSettings settings;
        settings.theta = theta;
        const auto plain = rope_frequencies(settings, dimensions_);
        settings.scaling = RopeSettings::Scaling::factors;
        for (std::size_t pair = 0; pair < plain.size(); ++pair) {
            settings.factors.push_back(static_cast<float>(plain[pair] / frequencies_[pair]));
        }
        return settings;
    }

    std::span<const float> table_;
    std::uint32_t dimensions_;
    std::uint32_t fine_rows_;
    std::size_t rows_;
    std::vector<double> frequencies_;
};

}  // namespace

RopeSettings recover_rope(std::span<const float> table, std::uint32_t dimensions,
                          std::uint32_t fine_rows, const std::string& place) {
    const auto settings = Recovery(table, dimensions, fine_rows).run();
    if (!settings) {
        throw Error(place, "is not a table of rotations that grow with the position");
    }
    return *settings;
}

}  // namespace m4::firmware
