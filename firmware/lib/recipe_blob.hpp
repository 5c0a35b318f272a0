// SPDX-License-Identifier: MIT
#pragma once

#include <program_generated.h>

#include <string>

#include "recipe.hpp"

namespace m4::firmware {

struct RecipeBlob {
    fb::Recipe type = fb::Recipe::NONE;
    flatbuffers::Offset<void> table;
};

[[nodiscard]] RecipeBlob encode_recipe(flatbuffers::FlatBufferBuilder& buffer,
                                       const Recipe& recipe);

/// Of a part that FlatBuffers' verifier has been over. Throws Error where a list is
/// longer than any recipe has.
[[nodiscard]] Recipe decode_recipe(const fb::Part& part, const std::string& place);

}  // namespace m4::firmware
