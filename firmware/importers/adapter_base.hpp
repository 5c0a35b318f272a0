// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "lib/builder.hpp"
#include "lib/image.hpp"

namespace m4::firmware {

/// What an adapter is held against: an image's folder, of which the manifest is read, or
/// a checkpoint, of which all is, for its source digest. Movable.
class AdapterBase {
   public:
    explicit AdapterBase(const std::filesystem::path& path);  ///< throws Error

    [[nodiscard]] const Package& package() const;
    [[nodiscard]] const std::vector<Tensor>& tensors() const { return tensors_; }
    /// Of an image.
    [[nodiscard]] std::optional<Digest> image_digest() const;
    /// Stored bytes of a part, in the image or in one packed of the checkpoint.
    [[nodiscard]] std::uint64_t part_bytes(std::uint32_t part) const;

   private:
    std::vector<std::byte> manifest_;
    std::optional<Image> image_;
    std::unique_ptr<ImageBuilder> builder_;  // of a checkpoint; never written
    std::vector<Tensor> tensors_;
};

}  // namespace m4::firmware
