// SPDX-License-Identifier: MIT
#include "commands.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "write_image.hpp"

namespace m4::tools {

void pack(const PackOptions& options) {
    firmware::ImageBuilder builder(options.name, options.version, options.rollback_index);
    firmware::ImportOptions import;
    import.from = options.from;
    import.stored = stored_type(options.quantize);
    firmware::import_model(import, builder);
    write_image(builder, options.out, options.force, options.json);
}

}  // namespace m4::tools
