// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <filesystem>
#include <optional>
#include <string>

#include "lib/builder.hpp"

namespace m4::tools {

/// The type whose name this is; none for "auto".
[[nodiscard]] std::optional<m4_dtype> stored_type(const std::string& name);

/// Write the builder's image with progress and tell what came out. SIGINT and
/// SIGTERM end the writing by an error, so that no half image stays.
void write_image(firmware::ImageBuilder& builder, const std::filesystem::path& out, bool force,
                 bool json);

}  // namespace m4::tools
