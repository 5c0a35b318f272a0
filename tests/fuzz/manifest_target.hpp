// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>

namespace m4::fuzz {

/// How far bytes got.
enum class Depth { kStructure, kDigests, kPrograms, kAccepted };

/// Reads bytes as every reader of manifests does: m4_manifest_check,
/// m4_manifest_check_digests, Image::parse. Aborts where what was accepted
/// breaks a promise of its contract; whatever is refused must be refused by an
/// error.
Depth check_manifest(std::span<const std::uint8_t> bytes);

}  // namespace m4::fuzz
