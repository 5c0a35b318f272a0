// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "media/prepare.hpp"

namespace m4::fuzz {

/// An input: which recipe, what is said of the file, the file.
struct MediaCase {
    std::uint8_t recipe = 0;  ///< modulo media_recipes()
    media::Descriptor media;
    std::vector<std::uint8_t> file;
};

/// Small ones, of every kind; none takes long, whatever the rates.
[[nodiscard]] const std::vector<firmware::Recipe>& media_recipes();

[[nodiscard]] std::vector<std::uint8_t> pack_media(const MediaCase& one);
/// What is missing at the end of too few bytes is 0.
[[nodiscard]] MediaCase unpack_media(std::span<const std::uint8_t> bytes);

/// Cases that are accepted: every kind, each recipe.
[[nodiscard]] std::vector<MediaCase> media_seeds();

/// Prepares the file as it is said to be. Aborts where what comes of it breaks a promise;
/// what is refused must be refused by a MediaError. False: refused.
bool check_media(std::span<const std::uint8_t> bytes);

}  // namespace m4::fuzz
