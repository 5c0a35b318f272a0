// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <optional>

#include "adapter_draft.hpp"

/// One importer a kind of file. Each fills pairs and a head, and what the file says of
/// itself; none knows whether it fits. All throw Error naming the tensor or the key.
namespace m4::firmware {

/// The part that the adapter is meant for; a head asks it what it gives.
struct HeadBase {
    const Part* part = nullptr;  ///< null: not known
};

/// Saved by PEFT: adapter_config.json and adapter_model.safetensors. `modules_to_save`
/// are left for add_saved_head().
struct PeftImport {
    AdapterDraft draft;
    std::shared_ptr<const Checkpoint> checkpoint;
    std::vector<std::string> saved;  ///< modules, by their names in the file
};
[[nodiscard]] PeftImport import_peft(const std::filesystem::path& folder,
                                     std::optional<m4_dtype> wanted);
/// The classifier that was trained with an encoder. Refused where `base` is none.
void add_saved_head(PeftImport& peft, const HeadBase& base, std::optional<m4_dtype> wanted);

/// GGUF of general.type "adapter".
[[nodiscard]] AdapterDraft import_gguf_lora(const std::filesystem::path& file,
                                            std::optional<m4_dtype> wanted);

/// A head of one linear layer in a safetensors file whose metadata say kind = head.
[[nodiscard]] AdapterDraft import_head(const std::filesystem::path& file, const HeadBase& base,
                                       std::optional<m4_dtype> wanted);
/// Columns of its weight, by which its part is found.
[[nodiscard]] bool head_fits(const std::filesystem::path& file, const Part& part);

}  // namespace m4::firmware
