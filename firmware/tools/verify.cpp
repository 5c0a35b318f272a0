// SPDX-License-Identifier: MIT
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "lib/error.hpp"
#include "lib/image.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4::tools {

using nlohmann::ordered_json;

void verify(const VerifyOptions& options) {
    try {
        ProgressLine progress("checking");
        const auto mapped = firmware::MappedImage::open_folder(
            options.folder,
            [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); });
        const firmware::Image& image = mapped.image();
        const std::uint64_t bytes = image.manifest().manifest_bytes + image.payload_bytes();
        if (options.json) {
            std::cout << ordered_json{{"ok", true},
                                      {"name", std::string(image.name())},
                                      {"version", std::string(image.version())},
                                      {"digest", firmware::to_hex(image.digest())},
                                      {"bytes", bytes}}
                             .dump(2)
                      << '\n';
        } else {
            std::cout << options.folder.string() << ": good: " << image.name() << ' '
                      << image.version() << ", " << count_text(bytes) << " bytes, digest "
                      << firmware::to_hex(image.digest()) << '\n';
        }
    } catch (const firmware::Error& error) {
        if (options.json) {
            const std::string text = error.what();
            std::cout << ordered_json{{"ok", false},
                                      {"place", error.place()},
                                      {"reason", text.substr(error.place().size() + 2)}}
                             .dump(2, ' ', false, ordered_json::error_handler_t::replace)
                      << '\n';
        }
        throw;
    }
}

}  // namespace m4::tools
