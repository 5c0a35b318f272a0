// SPDX-License-Identifier: MIT
// Exports and the page cache where there is no module: clear refusals.
#include <doctest/doctest.h>

#include <fstream>
#include <string>

#include "lib/error.hpp"
#include "temp_folder.hpp"
#include "trust/image_export.hpp"
#include "trust/page_cache.hpp"

namespace m4::test {
namespace {

std::string refusal(const std::filesystem::path& node) {
    try {
        (void)trust::export_window(node, 0, 0, 2U << 20);
    } catch (const firmware::Error& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_CASE("export: an absent control node, and one that is none, are named") {
    CHECK(refusal("/nonexistent/control") ==
          "/nonexistent/control: cannot open: No such file or directory");
    CHECK(refusal("/dev/null") ==
          "/dev/null: cannot ask for the version: Inappropriate ioctl for device");
}

TEST_CASE("page cache: regular files of the folder, as far as they can be read") {
    const TempFolder folder;
    std::ofstream(folder / "manifest.m4m") << std::string(1000, 'm');
    std::ofstream(folder / "seg-000.m4w") << std::string(5000, 's');
    std::filesystem::create_directory(folder / "inner");
    std::filesystem::create_symlink("seg-000.m4w", folder / "link");
    CHECK(trust::drop_page_cache(folder.path()) == 6000);
    CHECK(trust::drop_page_cache(folder / "absent") == 0);
}

}  // namespace m4::test
