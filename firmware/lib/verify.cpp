// SPDX-License-Identifier: MIT
#include "verify.hpp"

#include <algorithm>
#include <set>
#include <string>

#include "decode.hpp"
#include "error.hpp"
#include "image.hpp"
#include "limits.hpp"
#include "part_rules.hpp"
#include "places.hpp"
#include "program_check.hpp"

namespace m4::firmware {

namespace {

/// The program that a part of a kind must have.
std::string_view main_program(PartKind kind) {
    switch (kind) {
        case PartKind::backbone:
            return "forward";
        case PartKind::projector:
            return "project";
        case PartKind::decoder:
            return "forward";
        case PartKind::head:
            return "score";
        case PartKind::encoder:
            break;
    }
    return "encode";
}

void require_name(const std::string& name, const std::string& place) {
    const bool good = !name.empty() && name.size() <= kMaxNameBytes && name.front() != '-' &&
                      std::all_of(name.begin(), name.end(), [](char ch) {
                          return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-';
                      });
    if (!good) {
        throw Error(place, "name is not [a-z0-9][a-z0-9-]*, at most 64 bytes");
    }
}

void require_count(std::size_t count, std::size_t limit, const std::string& place,
                   const char* what) {
    if (count > limit) {
        throw Error(place,
                    std::to_string(count) + " " + what + ", more than " + std::to_string(limit));
    }
}

void check_part(const Part& part, const std::vector<Tensor>& tensors, const std::string& place) {
    require_name(part.name, place);
    if (part.kind < PartKind::backbone || part.kind > PartKind::head) {
        throw Error(place, "unknown kind " + std::to_string(static_cast<unsigned>(part.kind)));
    }
    require_count(part.architecture.size(), kMaxNameBytes, place, "bytes of architecture");
    if (!is_printable(part.architecture)) {
        throw Error(place, "architecture is not printable ASCII");
    }
    require_count(part.programs.size(), kMaxPrograms, place, "programs");
    check_properties(part, tensors, place);
    std::set<std::string> names;
    for (std::size_t i = 0; i < part.programs.size(); ++i) {
        const Program& program = part.programs[i];
        const std::string inner = program_place(place, program.name, i);
        require_name(program.name, inner);
        if (!names.insert(program.name).second) {
            throw Error(inner, "a second program of this name");
        }
        check_program(part, program, tensors, inner);
    }
    const std::string wanted(main_program(part.kind));
    if (names.count(wanted) == 0) {
        throw Error(place, "no program '" + wanted + "'");
    }
}

}  // namespace

void verify_package(const Package& package, const std::vector<Tensor>& tensors) {
    if (package.parts.empty()) {
        throw Error("program blob", "no parts");
    }
    require_count(package.parts.size(), kMaxParts, "program blob", "parts");
    std::set<std::string> names;
    for (std::size_t i = 0; i < package.parts.size(); ++i) {
        const std::string place = part_place(package.parts[i].name, i);
        if (!names.insert(package.parts[i].name).second) {
            throw Error(place, "a second part of this name");
        }
        check_part(package.parts[i], tensors, place);
        if (package.parts[i].kind == PartKind::head) {
            throw Error(place, "a head is part of an adapter, and of no image");
        }
    }
    check_company(package);
    for (const Tensor& tensor : tensors) {
        if (tensor.part >= package.parts.size()) {
            throw Error("tensor '" + std::string(tensor.name) + "'",
                        "part " + std::to_string(tensor.part) + " does not exist");
        }
    }
}

Package verify_package(std::span<const std::byte> blob, const std::vector<Tensor>& tensors) {
    Package package = decode_package(blob);
    verify_package(package, tensors);
    return package;
}

void verify_head(const Part& head, const std::vector<Tensor>& tensors) {
    const std::string place = part_place(head.name, 0);
    if (head.kind != PartKind::head) {
        throw Error(place, "is not of kind head");
    }
    check_part(head, tensors, place);
    for (const Tensor& tensor : tensors) {
        if (tensor.part != 0) {
            throw Error("tensor '" + std::string(tensor.name) + "'", "is not of the head");
        }
    }
}

Part verify_head(std::span<const std::byte> blob, const std::vector<Tensor>& tensors) {
    Package package = decode_package(blob);
    if (package.parts.size() != 1) {
        throw Error("program blob",
                    std::to_string(package.parts.size()) + " parts instead of the head");
    }
    verify_head(package.parts.front(), tensors);
    return std::move(package.parts.front());
}

}  // namespace m4::firmware
