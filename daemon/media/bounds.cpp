// SPDX-License-Identifier: MIT
#include "bounds.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "prepare.hpp"

namespace m4::media {

static_assert(std::endian::native == std::endian::little);

void check_range(const char* field, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
    if (value < least || value > most) {
        throw MediaError(std::string(field) + " " + std::to_string(value) + " is not " +
                         std::to_string(least) + " to " + std::to_string(most));
    }
}

void check_rate(float rate_hz) {
    if (!(rate_hz >= kMinRate && rate_hz <= kMaxRate)) {
        throw MediaError("rate_hz " + number_text(rate_hz) + " is not " + number_text(kMinRate) +
                         " to " + number_text(kMaxRate));
    }
}

std::span<const std::byte> bytes_at(std::span<const std::byte> file, const char* field,
                                    std::uint64_t offset, std::uint64_t bytes) {
    if (offset > file.size() || bytes > file.size() - offset) {
        throw MediaError(std::string(field) + " " + std::to_string(offset) + ": " +
                         std::to_string(bytes) + " bytes from there are not within the file's " +
                         std::to_string(file.size()));
    }
    return file.subspan(offset, bytes);
}

float finite(float number, std::uint64_t sample, std::uint64_t channel) {
    if (!std::isfinite(number)) {
        throw MediaError("sample " + std::to_string(sample) + " of channel " +
                         std::to_string(channel) + " is " +
                         (std::isnan(number) ? "not a number" : "infinite"));
    }
    return number;
}

float float_at(const std::byte* from) {
    float number = 0;
    std::memcpy(&number, from, sizeof(number));
    return number;
}

void check_features(std::uint64_t items, firmware::FeatureShape shape) {
    if (product(items, product(shape.rows, shape.columns)) > kMaxFeatures) {
        throw MediaError("features: " + std::to_string(items) + " times " +
                         shape_text(shape.rows, shape.columns) + " are more than " +
                         std::to_string(kMaxFeatures));
    }
}

std::string shape_text(std::uint64_t rows, std::uint64_t columns) {
    return std::to_string(rows) + " x " + std::to_string(columns);
}

std::string number_text(double number) {
    std::array<char, 32> text{};
    (void)std::snprintf(text.data(), text.size(), "%.9g", number);
    return text.data();
}

}  // namespace m4::media
