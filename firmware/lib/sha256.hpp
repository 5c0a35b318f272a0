// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "image.hpp"

namespace m4::firmware {

/// SHA-256 over OpenSSL's EVP, which uses the processor's instructions. An
/// object belongs to one thread at a time.
class Sha256 {
   public:
    Sha256();
    ~Sha256();
    Sha256(const Sha256&) = delete;
    Sha256& operator=(const Sha256&) = delete;

    void update(std::span<const std::byte> bytes);
    void update(std::string_view text);
    /// The digest; the object then begins anew.
    [[nodiscard]] Digest finish();

   private:
    struct Context;
    std::unique_ptr<Context> context_;
};

/// Of all at once.
[[nodiscard]] Digest sha256(std::span<const std::byte> bytes);

}  // namespace m4::firmware
