// SPDX-License-Identifier: MIT
#pragma once

#include <string_view>
#include <vector>

#include "program.hpp"

namespace m4::firmware {

/// One M4_ATTR row of ops.def.
struct AttrInfo {
    AttrId id;
    std::string_view name;
    char kind;  ///< 'I' integer, 'F' real
};

/// All attributes, in ops.def's order.
[[nodiscard]] const std::vector<AttrInfo>& attribute_set();
/// Null where no attribute has this id or name.
[[nodiscard]] const AttrInfo* find_attribute(std::uint16_t id) noexcept;
[[nodiscard]] const AttrInfo* find_attribute(std::string_view name) noexcept;
/// The attributes an operator takes, all of them required.
[[nodiscard]] std::vector<const AttrInfo*> attributes_of(const OpInfo& op);

}  // namespace m4::firmware
