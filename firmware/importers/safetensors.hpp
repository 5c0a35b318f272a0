// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "checkpoint.hpp"

namespace m4::firmware {

/// Maps one safetensors file and adds its tensors to `checkpoint`. The header's
/// length, every offset and the whole coverage of the data region (no overlap,
/// no hole) are checked. Throws Error naming the file and the tensor.
void add_safetensors(const std::filesystem::path& file, Checkpoint& checkpoint);
/// The same of bytes that outlive `checkpoint`; `place` names them in messages.
void add_safetensors(std::span<const std::byte> bytes, const std::string& place,
                     Checkpoint& checkpoint);

/// The weights of a Hugging Face folder: model.safetensors, or the shards that
/// model.safetensors.index.json lists. Throws Error.
[[nodiscard]] std::shared_ptr<const Checkpoint> open_safetensors_folder(
    const std::filesystem::path& folder);

}  // namespace m4::firmware
