// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/quant.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

/// Element types that are imported; `other` is known by name only, `computed`
/// elements lie in no file.
enum class SourceType : std::uint8_t { f32, f16, bf16, q8_0, q4_0, computed, other };

/// One tensor of a checkpoint, whatever the file format. Points into a mapping
/// that the Checkpoint owns.
struct SourceTensor {
    std::string name;
    std::string file;       ///< for messages
    std::string type_name;  ///< as its format calls it: "F32", "Q4_0"
    SourceType type = SourceType::other;
    std::vector<std::uint64_t> shape;  ///< outermost dimension first, as in row-major
    std::span<const std::byte> bytes;  ///< exactly the elements, unless type is `other`
    /// Of a computed tensor: elements [first, first + out.size()).
    std::function<void(std::uint64_t first, std::span<float> out)> compute;

    /// Product of the dimensions (checked when the tensor was added).
    [[nodiscard]] std::uint64_t element_count() const;
    /// "<file>: tensor '<name>'"
    [[nodiscard]] std::string place() const;
    /// Elements [first, first + out.size()) as F32. Throws Error where the type
    /// is not imported or the range leaves the tensor.
    void read(std::uint64_t first, std::span<float> out) const;
    /// Blocks [first, first + out.size()) of a tensor of type q8_0 or q4_0.
    void read_blocks(std::uint64_t first, std::span<QuantBlock> out) const;

   private:
    void read_quantized(std::uint64_t first, std::span<float> out) const;
};

/// The smallest piece of a tensor: elements of one row, and their bytes.
struct SourceBlock {
    std::uint64_t elements = 1;
    std::uint64_t bytes = 0;
};
/// No bytes for `other` and `computed`.
[[nodiscard]] SourceBlock source_block(SourceType type);
/// Bytes of a tensor of this shape; 0 for `other`. Throws Error(place) where
/// its rows are not whole blocks.
[[nodiscard]] std::uint64_t source_bytes(SourceType type, std::span<const std::uint64_t> shape,
                                         const std::string& place);

/// The tensors of a checkpoint and the mappings they lie in. Build on one
/// thread; then const and safe from any.
class Checkpoint {
   public:
    explicit Checkpoint(std::string place) : place_(std::move(place)) {}

    /// Takes the mapping over; the returned bytes live as long as this object.
    std::span<const std::byte> adopt(MappedFile file);
    /// Throws Error on a second tensor of the same name, and where the bytes
    /// are not the size that type and shape ask for.
    void add(SourceTensor tensor);

    /// What a file says of itself.
    void set_metadata(const std::string& key, const std::string& value) { metadata_[key] = value; }
    [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }

    [[nodiscard]] const SourceTensor* find(std::string_view name) const;
    /// Throws Error where it is missing or of another rank.
    [[nodiscard]] const SourceTensor& of_rank(const std::string& name, std::size_t rank) const;
    [[nodiscard]] const std::vector<SourceTensor>& tensors() const { return tensors_; }
    [[nodiscard]] const std::string& place() const { return place_; }

   private:
    std::string place_;
    std::vector<MappedFile> files_;
    std::vector<SourceTensor> tensors_;
    std::map<std::string, std::string> metadata_;
    std::map<std::string, std::size_t, std::less<>> by_name_;
};

/// A byte range of a data region, for the overlap check.
struct ByteRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::string name;
};

/// Throws Error naming both tensors where two ranges share a byte.
void refuse_overlaps(std::vector<ByteRange> ranges, const std::string& place);

/// Product of dimensions; throws Error(place) where a dimension is 0 or the
/// product leaves 2^53 (no file holds so many).
[[nodiscard]] std::uint64_t checked_element_count(std::span<const std::uint64_t> shape,
                                                  const std::string& place);

/// "[2, 3]"
[[nodiscard]] std::string shape_text(std::span<const std::uint64_t> shape);

}  // namespace m4::firmware
