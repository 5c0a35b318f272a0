// SPDX-License-Identifier: MIT
#include "write_image.hpp"

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "print.hpp"
#include "progress.hpp"
#include "stop_signal.hpp"

namespace m4::tools {

std::optional<m4_dtype> stored_type(const std::string& name) {
    for (const m4_dtype dtype : {M4_DTYPE_F32, M4_DTYPE_F16, M4_DTYPE_Q8, M4_DTYPE_Q4}) {
        if (dtype_name(dtype) == name) {
            return dtype;
        }
    }
    return std::nullopt;
}

namespace {

/// What an app that knows the image must do itself.
std::vector<std::string> notes_of(const firmware::Image& image) {
    std::vector<std::string> notes;
    for (const firmware::Part& part : image.package().parts) {
        if (part.kind != firmware::PartKind::encoder ||
            !std::holds_alternative<std::monostate>(part.recipe)) {
            continue;
        }
        notes.push_back("part " + part.name +
                        (part.vocabulary != 0 ? " has no tokenizer: it takes token ids only"
                                              : " has no recipe: it takes features only"));
    }
    return notes;
}

}  // namespace

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
        std::cout << nlohmann::ordered_json{{"folder", out.string()},
                                            {"name", std::string(image.name())},
                                            {"version", std::string(image.version())},
                                            {"rollback_index", image.rollback_index()},
                                            {"digest", firmware::to_hex(image.digest())},
                                            {"payload_bytes", image.payload_bytes()},
                                            {"tensor_count", image.tensors().size()},
                                            {"notes", notes_of(image)},
                                            {"seconds", taken.count()}}
                         .dump(2)
                  << '\n';
    } else {
        std::cout << out.string() << ": " << image.name() << ' ' << image.version() << ", "
                  << image.tensors().size() << " tensors, " << size_text(image.payload_bytes())
                  << ", digest " << firmware::to_hex(image.digest()) << '\n';
        for (const std::string& note : notes_of(image)) {
            std::cout << note << '\n';
        }
    }
}

}  // namespace m4::tools
