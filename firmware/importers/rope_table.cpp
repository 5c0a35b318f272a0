// SPDX-License-Identifier: MIT
#include "rope_table.hpp"

#include <cmath>
#include <numbers>
#include <span>
#include <utility>

namespace m4::firmware {

namespace {

/// One frequency under Llama 3's rule: wavelengths short against the original
/// context stay, long ones are stretched by `factor`, those between blend.
double llama3_frequency(const RopeSettings& settings, double frequency) {
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    const double turns = settings.original_context / wavelength;
    if (turns > settings.high_freq_factor) {
        return frequency;
    }
    const double stretched = frequency / settings.factor;
    if (turns < settings.low_freq_factor) {
        return stretched;
    }
    const double keep =
        (turns - settings.low_freq_factor) / (settings.high_freq_factor - settings.low_freq_factor);
    return (1.0 - keep) * stretched + keep * frequency;
}

}  // namespace

std::vector<double> rope_frequencies(const RopeSettings& settings, std::uint32_t dimensions) {
    std::vector<double> out;
    for (std::uint32_t pair = 0; pair < dimensions / 2; ++pair) {
        const double exponent = -2.0 * pair / dimensions;
        double frequency = std::pow(settings.theta, exponent);
        switch (settings.scaling) {
            case RopeSettings::Scaling::none:
                break;
            case RopeSettings::Scaling::linear:
                frequency /= settings.factor;
                break;
            case RopeSettings::Scaling::llama3:
                frequency = llama3_frequency(settings, frequency);
                break;
            case RopeSettings::Scaling::factors:
                frequency /= settings.factors.at(pair);
                break;
        }
        out.push_back(frequency);
    }
    return out;
}

RopeTable rope_table(std::vector<double> frequencies, std::uint64_t context,
                     std::uint32_t fine_rows) {
    const std::uint64_t coarse = (context + fine_rows - 1) / fine_rows;
    const std::uint64_t columns = 2 * frequencies.size();
    auto rows = [frequencies = std::move(frequencies), fine_rows](
                    std::uint64_t first, std::uint64_t count, std::span<float> out) {
        std::size_t at = 0;
        for (std::uint64_t row = first; row < first + count; ++row) {
            const auto position = row < fine_rows ? row : (row - fine_rows) * fine_rows;
            for (const double frequency : frequencies) {
                const double angle = static_cast<double>(position) * frequency;
                out[at++] = static_cast<float>(std::cos(angle));
                out[at++] = static_cast<float>(std::sin(angle));
            }
        }
    };
    return {{fine_rows + coarse, columns}, std::move(rows)};
}

}  // namespace m4::firmware
