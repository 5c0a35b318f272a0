// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "lib/image.hpp"
#include "lib/signature.hpp"

namespace m4::tools {

/// "1.5 MiB", "12 bytes".
[[nodiscard]] std::string size_text(std::uint64_t bytes);
/// "260,032".
[[nodiscard]] std::string count_text(std::uint64_t count);
/// "[512, 64]".
[[nodiscard]] std::string shape_text(const firmware::Tensor& tensor);
[[nodiscard]] std::string dtype_name(m4_dtype dtype);
[[nodiscard]] std::string layout_name(m4_layout layout);

/// How often a program uses each operator, by name.
[[nodiscard]] std::map<std::string, std::size_t> operators_used(const firmware::Program& program);

/// Rows of cells to standard output, columns aligned; a column whose cells
/// all begin with a digit is set flush right.
void print_table(const std::vector<std::string>& head,
                 const std::vector<std::vector<std::string>>& rows);

/// A manifest read and checked, without its payload. Holds the bytes that the
/// image points into.
struct LoadedManifest {
    std::vector<std::byte> bytes;
    firmware::Image image;
};
[[nodiscard]] LoadedManifest load_manifest(const std::filesystem::path& folder);

/// One line on standard error where the certificate's time is over.
void warn_if_expired(const firmware::Certificate& certificate);

}  // namespace m4::tools
