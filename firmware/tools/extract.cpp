// SPDX-License-Identifier: MIT
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "exporters/gguf_writer.hpp"
#include "exporters/llama_export.hpp"
#include "lib/staged_file.hpp"
#include "print.hpp"
#include "progress.hpp"
#include "stop_signal.hpp"

namespace m4::tools {

void extract(const ExtractOptions& options) {
    const auto image = [&] {
        ProgressLine progress("verifying");
        return firmware::MappedImage::open_folder(
            options.folder,
            [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); });
    }();
    firmware::GgufWriter gguf;
    firmware::export_llama(image, options.folder.string(), gguf);
    {
        const StopOnSignal stop;
        ProgressLine progress("writing");
        firmware::StagedFile file(options.gguf, 0666, options.force);
        gguf.write(file, [&](std::uint64_t done, std::uint64_t total) {
            StopOnSignal::check(options.gguf);
            progress.update(done, total);
        });
        file.commit();
    }
    const std::string digest = firmware::to_hex(image.image().digest());
    if (options.json) {
        std::cout << nlohmann::ordered_json{{"file", options.gguf.string()},
                                            {"bytes", gguf.file_bytes()},
                                            {"tensor_count", gguf.tensor_count()},
                                            {"digest", digest}}
                         .dump(2)
                  << '\n';
    } else {
        std::cout << options.gguf.string() << ": " << image.image().name() << ' '
                  << image.image().version() << ", " << gguf.tensor_count() << " tensors, "
                  << size_text(gguf.file_bytes()) << ", of the image with digest " << digest
                  << '\n';
    }
}

}  // namespace m4::tools
