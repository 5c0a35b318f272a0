// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "adapter_draft.hpp"
#include "adapters/match.hpp"

namespace m4::firmware {

struct AdapterImportOptions {
    std::filesystem::path from;  ///< PEFT's folder, a GGUF file, or a head's .safetensors
    std::filesystem::path base =
        {};                 ///< an image's folder or a checkpoint; empty: it stays unbound
    std::string part = {};  ///< of the base; empty: the one that fits
    std::string name = {};  ///< empty: as the source is called
    std::string task = {};  ///< empty: as the source says
    std::string prompt_template = {};
    std::optional<m4_dtype> stored = {};  ///< F32 or F16; none: as the source has them
};

/// An adapter that can be written, and what was found out on the way.
struct AdapterImport {
    AdapterDraft draft;
    std::optional<AdapterMatch> match;  ///< with a base
    std::string part;                   ///< of the base
    std::uint64_t base_bytes = 0;       ///< stored, of that part
    std::vector<double> norms;          ///< delta_norms()
};

/// Reads the source and, with a base, binds to it: every pair has its tensor there, and
/// something changes something. Throws Error naming what does not.
[[nodiscard]] AdapterImport import_adapter(const AdapterImportOptions& options);

}  // namespace m4::firmware
