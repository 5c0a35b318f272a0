// SPDX-License-Identifier: MIT
#include "operators.hpp"

#include <algorithm>
#include <array>

namespace m4::firmware {

namespace {

constexpr std::array kOps = {
#define M4_OP(code, name, inputs, outputs, attributes, summary) \
    OpInfo{OpCode::name, #name, inputs, outputs, attributes, summary},
#include "../ops.def"
};
static_assert(kOps.size() <= 39, "the operator set is closed: at most 39 operators");

constexpr char kind_char(std::string_view text) {
    return text.front();
}

constexpr std::array kAttributes = {
#define M4_ATTR(id, name, kind) AttrInfo{AttrId::name, #name, kind_char(#kind)},
#include "../ops.def"
};
static_assert(
    [] {
        const Op op;
        return std::all_of(kAttributes.begin(), kAttributes.end(), [&](const AttrInfo& info) {
            return static_cast<std::size_t>(info.id) < op.reals.size();
        });
    }(),
    "an attribute id past what Op can hold");

}  // namespace

const std::vector<OpInfo>& operator_set() {
    static const std::vector<OpInfo> set(kOps.begin(), kOps.end());
    return set;
}

const OpInfo* find_op(std::uint16_t code) noexcept {
    const auto* found = std::find_if(kOps.begin(), kOps.end(), [&](const OpInfo& info) {
        return static_cast<std::uint16_t>(info.code) == code;
    });
    return found == kOps.end() ? nullptr : &*found;
}

const std::vector<AttrInfo>& attribute_set() {
    static const std::vector<AttrInfo> set(kAttributes.begin(), kAttributes.end());
    return set;
}

const AttrInfo* find_attribute(std::uint16_t id) noexcept {
    const auto* found = std::find_if(
        kAttributes.begin(), kAttributes.end(),
        [&](const AttrInfo& info) { return static_cast<std::uint16_t>(info.id) == id; });
    return found == kAttributes.end() ? nullptr : &*found;
}

const AttrInfo* find_attribute(std::string_view name) noexcept {
    const auto* found = std::find_if(kAttributes.begin(), kAttributes.end(),
                                     [&](const AttrInfo& info) { return info.name == name; });
    return found == kAttributes.end() ? nullptr : &*found;
}

std::vector<const AttrInfo*> attributes_of(const OpInfo& op) {
    std::vector<const AttrInfo*> result;
    std::string_view rest = op.attributes;
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find(' '), rest.size());
        if (const AttrInfo* info = find_attribute(rest.substr(0, end))) {
            result.push_back(info);
        }
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return result;
}

}  // namespace m4::firmware
