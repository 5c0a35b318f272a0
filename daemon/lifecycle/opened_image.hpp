// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lib/image.hpp"
#include "lib/tokenizer.hpp"
#include "lifecycle/notifier.hpp"
#include "trust/kernel_image.hpp"

namespace m4::lifecycle {

/// The image, and what the kernel says of it where it holds it.
struct OpenedImage {
    firmware::MappedImage mapped;
    std::optional<trust::KernelImage> kernel;

    /// Null: it has none.
    [[nodiscard]] const firmware::Part* backbone() const;
    /// Why nothing may be computed from it, once it is lost: a sentence.
    [[nodiscard]] std::string lost_text() const;
};

/// The image of a folder, or of the kernel's node where `folder` is empty.
/// Tells the service manager how far it is. Throws firmware::Error.
[[nodiscard]] OpenedImage open_image(const std::filesystem::path& folder,
                                     const std::filesystem::path& device_node,
                                     const Notifier& notifier);

/// A part's tokeniser over a copy of its section: it goes on working, and in bounds,
/// when the image is lost.
class OwnedTokenizer {
   public:
    /// Throws firmware::Error.
    OwnedTokenizer(const OpenedImage& opened, const firmware::Part& part);
    [[nodiscard]] const firmware::Tokenizer& get() const { return tokenizer_; }

   private:
    std::vector<std::byte> section_;
    firmware::Tokenizer tokenizer_;
};

/// All tokenisers of an image, by part.
class OwnedTokenizers {
   public:
    /// Throws firmware::Error.
    explicit OwnedTokenizers(const OpenedImage& opened);

    [[nodiscard]] std::map<std::uint32_t, const firmware::Tokenizer*> by_part() const;
    /// Null: the image has no backbone.
    [[nodiscard]] const firmware::Tokenizer* backbone() const { return backbone_; }

   private:
    std::map<std::uint32_t, OwnedTokenizer> all_;
    const firmware::Tokenizer* backbone_ = nullptr;
};

}  // namespace m4::lifecycle
