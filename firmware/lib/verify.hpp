// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "program.hpp"

namespace m4::firmware {

struct Tensor;

/// Decode a program blob and check everything about it against the manifest's
/// tensors: FlatBuffers structure, parts, ports, single definition, definition
/// before use (so no cycles), operator arity and attributes from ops.def, each
/// operator's shape rule, bounds, state use (a KV cache is written exactly
/// once, before attention reads it). Throws Error whose place names the part,
/// program, operator and operand: "part backbone: forward: op 12 (linear):
/// input 1".
Package verify_package(std::span<const std::byte> blob, const std::vector<Tensor>& tensors);

/// The same checks over structs a packer has built.
void verify_package(const Package& package, const std::vector<Tensor>& tensors);

/// Likewise of an adapter's head: one part of that kind, over tensors of its own. No
/// image has one, and verify_package() refuses it.
Part verify_head(std::span<const std::byte> blob, const std::vector<Tensor>& tensors);
void verify_head(const Part& head, const std::vector<Tensor>& tensors);

/// The blob of a package; verify_package(encode_package(p), t) == p.
std::vector<std::byte> encode_package(const Package& package);

}  // namespace m4::firmware
