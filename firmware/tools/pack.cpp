// SPDX-License-Identifier: MIT
#include <chrono>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/error.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4::tools {

namespace {

using nlohmann::ordered_json;

/// "Stories 260K.f16.gguf" -> "stories-260k-f16", as an image name must be.
std::string name_from(const std::filesystem::path& from) {
    auto path = from.has_filename() ? from : from.parent_path();
    if (path.extension() == ".gguf") {
        path.replace_extension();
    }
    std::string name;
    for (char ch : path.filename().string()) {
        ch = ch >= 'A' && ch <= 'Z' ? static_cast<char>(ch - 'A' + 'a') : ch;
        const bool plain = (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
        if (plain) {
            name += ch;
        } else if (!name.empty() && name.back() != '-') {
            name += '-';
        }
    }
    name.resize(std::min<std::size_t>(name.size(), M4_IMAGE_NAME_BYTES - 1));
    name.erase(name.find_last_not_of('-') + 1);
    return name.empty() ? "model" : name;
}

volatile std::sig_atomic_t stop_signal = 0;

/// While this object lives, SIGINT and SIGTERM end the writing by an error, so
/// that the half-written image is removed.
class StopOnSignal {
   public:
    StopOnSignal() {
        std::signal(SIGINT, [](int signal) { stop_signal = signal; });
        std::signal(SIGTERM, [](int signal) { stop_signal = signal; });
    }
    ~StopOnSignal() {
        std::signal(SIGINT, SIG_DFL);
        std::signal(SIGTERM, SIG_DFL);
    }
    StopOnSignal(const StopOnSignal&) = delete;
    StopOnSignal& operator=(const StopOnSignal&) = delete;

    static void check(const std::filesystem::path& out) {
        if (stop_signal != 0) {
            throw firmware::Error(out.string(), "interrupted, nothing was written");
        }
    }
};

}  // namespace

void pack(const PackOptions& options) {
    const auto begin = std::chrono::steady_clock::now();
    const std::string name = options.name.empty() ? name_from(options.from) : options.name;
    firmware::ImageBuilder builder(name, options.version, options.rollback_index);
    firmware::ImportOptions import;
    import.from = options.from;
    import.stored = options.quantize == "f32" ? M4_DTYPE_F32 : M4_DTYPE_F16;
    firmware::import_model(import, builder);
    {
        const StopOnSignal stop;
        ProgressLine progress("writing");
        builder.write(options.out, options.force, [&](std::uint64_t done, std::uint64_t total) {
            StopOnSignal::check(options.out);
            progress.update(done, total);
        });
    }
    const LoadedManifest loaded = load_manifest(options.out);
    const firmware::Image& image = loaded.image;
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    if (options.json) {
        std::cout << ordered_json{{"folder", options.out.string()},
                                  {"name", std::string(image.name())},
                                  {"version", std::string(image.version())},
                                  {"rollback_index", image.rollback_index()},
                                  {"digest", firmware::to_hex(image.digest())},
                                  {"payload_bytes", image.payload_bytes()},
                                  {"tensor_count", image.tensors().size()},
                                  {"seconds", taken.count()}}
                         .dump(2)
                  << '\n';
    } else {
        std::cout << options.out.string() << ": " << image.name() << ' ' << image.version() << ", "
                  << image.tensors().size() << " tensors, " << size_text(image.payload_bytes())
                  << ", digest " << firmware::to_hex(image.digest()) << '\n';
    }
}

}  // namespace m4::tools
