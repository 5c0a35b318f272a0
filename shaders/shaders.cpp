// SPDX-License-Identifier: MIT
#include "shaders.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace m4::shaders {

namespace {

#include "variants.inc"

}  // namespace

std::span<const VariantInfo> variants() noexcept {
    return kVariants;
}

const VariantInfo& find_variant(OpCode op, Dtype dtype, Access access, std::uint32_t tile,
                                Needs needs) {
    const auto* found =
        std::find_if(std::begin(kVariants), std::end(kVariants), [&](const VariantInfo& row) {
            return row.op == op && row.dtype == dtype && row.access == access && row.tile == tile &&
                   row.needs == needs;
        });
    if (found == std::end(kVariants)) {
        throw std::logic_error("variants.table has no kernel for operator " +
                               std::to_string(static_cast<unsigned>(op)) + " as asked");
    }
    return *found;
}

std::string_view digest() noexcept {
    return kDigest;
}

}  // namespace m4::shaders
