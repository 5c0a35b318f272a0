// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint.hpp"
#include "import.hpp"
#include "lib/builder.hpp"
#include "program_builder.hpp"
#include "source_digest.hpp"

namespace m4::firmware {

/// Sizes of a text encoder; of others 0.
struct TextSizes {
    std::uint32_t vocabulary = 0;
    std::uint32_t context = 0;
    std::vector<std::byte> tokenizer = {};  ///< its section, or empty
};

/// What an encoder's part says beside its program and its tensors.
struct EncoderProperties {
    std::string part_name;
    std::string architecture;
    PartKind kind = PartKind::encoder;  ///< or another
    /// Tensors that are left out begin with one of these.
    std::vector<std::string> ignored = {};
    TextSizes text = {};
    Recipe recipe = {};
    std::string space = {};
    std::vector<std::string> labels = {};
    std::uint32_t memory_rows = 0;  ///< of a decoder
    std::optional<Transcription> transcription = {};
};

/// The tensors of one encoder on their way from a checkpoint into an image. Each
/// is asked for by its name and shape, goes into the source digest once, as the
/// checkpoint has it, and is missed by name.
class EncoderTensors {
   public:
    using Ref = ProgramBuilder::Ref;
    using Shape = std::vector<std::uint64_t>;

    EncoderTensors(std::shared_ptr<const Checkpoint> checkpoint, const ImportOptions& options,
                   ImageBuilder& builder);

    /// The tensor as it is in the checkpoint. Throws Error where it is not there
    /// or of another shape.
    const SourceTensor& require(const std::string& name, const Shape& shape);

    /// For `linear`: the first dimension by all others.
    Ref matrix(const std::string& name, const Shape& shape);
    /// Rows [first, first + count) of a matrix as one of its own, for projections
    /// that lie in one tensor.
    Ref matrix_rows(const std::string& name, const Shape& shape, std::uint64_t first,
                    std::uint64_t count);
    /// A matrix that is computed from a tensor of the checkpoint.
    Ref made_matrix(const std::string& name, const Shape& shape, RowReader rows);
    /// The matrix of a tensor that has its rows as columns, shape {columns, rows}.
    Ref turned_matrix(const std::string& name, std::uint64_t columns, std::uint64_t rows);
    Ref vector(const std::string& name, std::uint64_t length);
    /// Each of them multiplied.
    Ref scaled_matrix(const std::string& name, const Shape& shape, float factor);
    /// Each column multiplied by its own.
    Ref column_scaled_matrix(const std::string& name, const Shape& shape,
                             std::vector<float> factors);
    Ref scaled_vector(const std::string& name, std::uint64_t length, float factor);
    Ref vector_part(const std::string& name, std::uint64_t length, std::uint64_t first,
                    std::uint64_t count);
    /// Rows that `prepend` and `add` take; dimensions of 1 before them are dropped.
    Ref table(const std::string& name, const Shape& shape);

    /// Adds the part. What of the checkpoint is neither used nor `ignored` is refused
    /// by name.
    void finish(EncoderProperties properties, Program program);
    void finish(EncoderProperties properties, std::vector<Program> programs);

   private:
    Ref add(std::string name, m4_dtype dtype, m4_layout layout, Shape shape, RowReader rows);
    RowReader reader(const SourceTensor& tensor, std::uint64_t columns, std::uint64_t first) const;

    std::shared_ptr<const Checkpoint> checkpoint_;
    const ImportOptions& options_;
    ImageBuilder& builder_;
    const std::uint32_t part_;
    std::set<std::string, std::less<>> used_;
    std::vector<DigestTensor> digest_;
    std::uint64_t parameters_ = 0;
};

}  // namespace m4::firmware
