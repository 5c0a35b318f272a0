// SPDX-License-Identifier: MIT
#include "write_image.hpp"

#include <chrono>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

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

}  // namespace

std::optional<m4_dtype> stored_type(const std::string& name) {
    for (const m4_dtype dtype : {M4_DTYPE_F32, M4_DTYPE_F16, M4_DTYPE_Q8, M4_DTYPE_Q4}) {
        if (dtype_name(dtype) == name) {
            return dtype;
        }
    }
    return std::nullopt;
}

void write_image(firmware::ImageBuilder& builder, const std::filesystem::path& out, bool force,
                 bool json) {
    const auto begin = std::chrono::steady_clock::now();
    {
        const StopOnSignal stop;
        ProgressLine progress("writing");
        builder.write(out, force, [&](std::uint64_t done, std::uint64_t total) {
            StopOnSignal::check(out);
            progress.update(done, total);
        });
    }
    const LoadedManifest loaded = load_manifest(out);
    const firmware::Image& image = loaded.image;
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    if (json) {
        std::cout << ordered_json{{"folder", out.string()},
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
        std::cout << out.string() << ": " << image.name() << ' ' << image.version() << ", "
                  << image.tensors().size() << " tensors, " << size_text(image.payload_bytes())
                  << ", digest " << firmware::to_hex(image.digest()) << '\n';
    }
}

}  // namespace m4::tools
