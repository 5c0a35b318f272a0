// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "image.hpp"

namespace m4::firmware {

/// What a manifest says, host-endian.
struct ManifestContent {
    std::string name;
    std::string version;
    std::uint64_t rollback_index = 0;
    std::vector<Segment> segments;
    std::vector<Tensor> tensors;
    std::vector<std::byte> program;
};

/// The salt of the tree: derived from everything in `content`, so that equal
/// calls give equal images.
[[nodiscard]] Digest derive_salt(const ManifestContent& content);

/// The manifest's bytes, digest included. `leaves` are SHA-256(salt || chunk).
[[nodiscard]] std::vector<std::byte> encode_manifest(const ManifestContent& content,
                                                     const Digest& salt,
                                                     const std::vector<Digest>& leaves);

}  // namespace m4::firmware
