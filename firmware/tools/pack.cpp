// SPDX-License-Identifier: MIT
#include "commands.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/error.hpp"
#include "write_image.hpp"

namespace m4::tools {

void pack(const PackOptions& options) {
    firmware::ImageBuilder builder(options.name, options.version, options.rollback_index);
    firmware::ImportOptions import;
    import.stored = stored_type(options.quantize);
    if (options.parts.empty()) {
        if (options.from.empty()) {
            throw firmware::Error("pack",
                                  "needs --from, or --part for each of several checkpoints");
        }
        import.from = options.from;
        firmware::import_model(import, builder);
    }
    for (const std::string& part : options.parts) {
        const std::size_t sign = part.find('=');
        if (sign == std::string::npos || sign == 0 || sign + 1 == part.size()) {
            throw firmware::Error("--part " + part, "is not NAME=PATH");
        }
        import.part_name = part.substr(0, sign);
        import.from = part.substr(sign + 1);
        firmware::import_model(import, builder);
    }
    write_image(builder, options.out, options.force, options.json);
}

}  // namespace m4::tools
