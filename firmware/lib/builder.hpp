// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "program.hpp"
#include "quant.hpp"

namespace m4::firmware {

struct Tensor;

/// Reads rows [first, first + count) of a matrix (a vector is one row) as F32,
/// row-major, `columns` apart. Called several times, in order; may throw.
using RowReader =
    std::function<void(std::uint64_t first, std::uint64_t count, std::span<float> out)>;

/// Reads rows [first, first + count) of a matrix that is quantised already, row
/// by row in blocks.
using BlockReader =
    std::function<void(std::uint64_t first, std::uint64_t count, std::span<QuantBlock> out)>;

/// What to store. The builder chooses place and padding.
struct TensorSpec {
    std::string name;
    m4_dtype dtype = M4_DTYPE_F32;       ///< stored type: F32, F16, Q8 or Q4
    m4_layout layout = M4_LAYOUT_PLAIN;  ///< ROWS16 for matrices that shaders multiply
    m4_row_order row_order = M4_ROW_ORDER_NONE;
    std::uint32_t head_dim = 0;
    std::uint32_t part = 0;
    std::vector<std::uint64_t> shape;  ///< rank 1 .. 4
};

/// Writes an image folder. Deterministic: the same calls give the same bytes
/// (salt and uuid derive from the content). Streams: memory does not grow with
/// the payload. Single-threaded use.
class ImageBuilder {
   public:
    /// `segment_bytes`: shard size, a multiple of 2 MiB, at most 1 GiB (tests
    /// use small ones).
    ImageBuilder(std::string name, std::string version, std::uint64_t rollback_index,
                 std::uint64_t segment_bytes = M4_IMAGE_SEGMENT_MAX);
    ~ImageBuilder();
    ImageBuilder(const ImageBuilder&) = delete;
    ImageBuilder& operator=(const ImageBuilder&) = delete;

    /// Returns the tensor's index in the manifest, as operands name it.
    /// F32 to F16 rounds to nearest even; a finite value beyond F16's range
    /// throws Error when written. Q8 and Q4 are quantised block by block, or
    /// taken from `blocks` as they are.
    std::uint32_t add_tensor(TensorSpec spec, RowReader rows, BlockReader blocks = {});
    /// A bulk section of U8.
    std::uint32_t add_section(std::string name, std::uint32_t part, std::vector<std::byte> bytes);
    void set_package(Package package);
    /// One more part of the package; its tensors are of part next_part(), as it
    /// was before.
    void add_part(Part part);
    [[nodiscard]] std::uint32_t next_part() const;
    /// What was added so far.
    [[nodiscard]] const Package& package() const;
    /// As the manifest will have them; names are views into this object, until more
    /// is added.
    [[nodiscard]] std::vector<Tensor> tensors() const;

    using Progress = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;
    /// Verifies the programs, then writes `folder` (created; must not hold an
    /// image already, unless `replace`). A failed write leaves no partial
    /// image behind: everything is written beside it and renamed in.
    void write(const std::filesystem::path& folder, bool replace, const Progress& progress = {});

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace m4::firmware
