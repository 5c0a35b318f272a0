// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/image.hpp"
#include "lib/program.hpp"

/// Adapters: small changes to one part of an image, and heads over what an encoder
/// gives. docs/adapter-format.md is the contract.
namespace m4::firmware {

/// W becomes W + scale * b * a, for one matrix W [rows, columns] of the base. Elements
/// are little-endian; the spans belong to whoever holds the file.
struct LowRankPair {
    std::string tensor;  ///< W's name in the image
    std::uint32_t rank = 0;
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;
    float scale = 0;
    m4_dtype dtype = M4_DTYPE_F32;  ///< F32 or F16, of both factors
    /// Of b's rows, where the image's tensor is rotated; else it has no meaning.
    m4_row_order order = M4_ROW_ORDER_NONE;
    std::span<const std::byte> a;  ///< [rank, columns], row-major
    std::span<const std::byte> b;  ///< [rows, rank], row-major
};

/// A program that makes `scores` of an encoder's `embedding` or `hidden`. Verified as
/// the image's own are; it holds no state.
struct AdapterHead {
    Part part;  ///< of kind head, with one program, "score"; labels are its own
    /// What its operands name, all of part 0; payload_offset is counted from the file's
    /// first byte, and names point into the file.
    std::vector<Tensor> tensors;
    std::vector<std::span<const std::byte>> bytes;  ///< stored, one a tensor
};

struct Adapter {
    std::string name;             ///< [A-Za-z0-9][A-Za-z0-9._-]*
    std::string task;             ///< printable, for people
    std::string prompt_template;  ///< has "{prompt}" once, or is empty
    std::string base_name;        ///< what the base was called, for people
    std::string architecture;     ///< of the base, for people
    std::string source;           ///< "peft", "gguf", "safetensors"; for people
    Digest base{};                ///< source digest of the part it is for; all zero: unbound
    Digest probed{};              ///< image in which it was seen to fit and act; all zero: none
    std::vector<LowRankPair> pairs;
    std::optional<AdapterHead> head;
    Digest digest{};  ///< SHA-256 of the file: the adapter's identity. Not written.
};

/// Whether any bit of it is set.
[[nodiscard]] bool is_set(const Digest& digest);
/// Whether it names its base by digest.
[[nodiscard]] inline bool is_bound(const Adapter& adapter) {
    return is_set(adapter.base);
}
/// Bytes of one factor element.
[[nodiscard]] inline std::uint64_t element_bytes(m4_dtype dtype) {
    return dtype == M4_DTYPE_F16 ? 2 : 4;
}
/// Bytes of the factors and of the head's tensors.
[[nodiscard]] std::uint64_t data_bytes(const Adapter& adapter);

/// Checks all of an adapter file, every value of it, and gives views into `file`, which
/// must outlive them. Throws Error naming the pair or the tensor.
[[nodiscard]] Adapter read_adapter(std::span<const std::byte> file);

/// The file of an adapter, read back through read_adapter(). The same adapter gives the
/// same bytes. Throws what reading would.
[[nodiscard]] std::vector<std::byte> encode_adapter(const Adapter& adapter);

/// Writes it beside its place and renames it there: never half a file.
void write_adapter(const std::filesystem::path& path, const Adapter& adapter, bool replace);

}  // namespace m4::firmware
