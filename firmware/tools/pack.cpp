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

/// None: as the checkpoint has it.
std::optional<m4_dtype> stored_type(const std::string& name) {
    for (const m4_dtype dtype : {M4_DTYPE_F32, M4_DTYPE_F16, M4_DTYPE_Q8, M4_DTYPE_Q4}) {
        if (dtype_name(dtype) == name) {
            return dtype;
        }
    }
    return std::nullopt;
}

}  // namespace

void pack(const PackOptions& options) {
    const auto begin = std::chrono::steady_clock::now();
    firmware::ImageBuilder builder(options.name, options.version, options.rollback_index);
    firmware::ImportOptions import;
    import.from = options.from;
    import.stored = stored_type(options.quantize);
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
