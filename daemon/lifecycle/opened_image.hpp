// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <filesystem>
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

    [[nodiscard]] const firmware::Part& backbone() const;  ///< throws firmware::Error
    /// Why nothing may be computed from it, once it is lost: a sentence.
    [[nodiscard]] std::string lost_text() const;
};

/// The image of a folder, or of the kernel's node where `folder` is empty.
/// Tells the service manager how far it is. Throws firmware::Error.
[[nodiscard]] OpenedImage open_image(const std::filesystem::path& folder,
                                     const std::filesystem::path& device_node,
                                     const Notifier& notifier);

/// The image's tokeniser over a copy of its section: it goes on working, and
/// in bounds, when the image is lost.
class OwnedTokenizer {
   public:
    explicit OwnedTokenizer(const OpenedImage& opened);
    [[nodiscard]] const firmware::Tokenizer& get() const { return tokenizer_; }

   private:
    std::vector<std::byte> section_;
    firmware::Tokenizer tokenizer_;
};

}  // namespace m4::lifecycle
