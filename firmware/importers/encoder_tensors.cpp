// SPDX-License-Identifier: MIT
#include "encoder_tensors.hpp"

#include <algorithm>
#include <utility>

#include "lib/error.hpp"
#include "row_order.hpp"

namespace m4::firmware {

namespace {

std::uint64_t columns_of(const EncoderTensors::Shape& shape) {
    std::uint64_t columns = 1;
    for (std::size_t i = 1; i < shape.size(); ++i) {
        columns *= shape[i];
    }
    return columns;
}

RowReader scaled(RowReader rows, float factor) {
    return [rows = std::move(rows), factor](std::uint64_t first, std::uint64_t count,
                                            std::span<float> out) {
        rows(first, count, out);
        for (float& value : out) {
            value *= factor;
        }
    };
}

std::string part_of(const std::string& name, std::uint64_t first) {
    return name + "[" + std::to_string(first) + ":]";
}

}  // namespace

EncoderTensors::EncoderTensors(std::shared_ptr<const Checkpoint> checkpoint,
                               const ImportOptions& options, ImageBuilder& builder)
    : checkpoint_(std::move(checkpoint)),
      options_(options),
      builder_(builder),
      part_(builder.next_part()) {}

const SourceTensor& EncoderTensors::require(const std::string& name, const Shape& shape) {
    const SourceTensor* tensor = checkpoint_->find(name);
    if (tensor == nullptr) {
        throw Error(checkpoint_->place() + ": tensor " + shown(name),
                    "is missing; its shape would be " + shape_text(shape));
    }
    if (tensor->shape != shape) {
        throw Error(tensor->place(),
                    "has shape " + shape_text(tensor->shape) + " instead of " + shape_text(shape));
    }
    if (tensor->type == SourceType::other) {
        throw Error(tensor->place(),
                    "has type " + tensor->type_name + "; this version imports F32, F16 and BF16");
    }
    if (used_.insert(name).second) {
        const std::uint64_t columns = columns_of(shape);
        Shape flat = {shape.empty() ? 1 : shape[0]};
        if (shape.size() > 1) {
            flat.push_back(columns);
        }
        digest_.push_back({name, std::move(flat), reader(*tensor, columns, 0)});
        parameters_ += tensor->element_count();
    }
    return *tensor;
}

RowReader EncoderTensors::reader(const SourceTensor& tensor, std::uint64_t columns,
                                 std::uint64_t first) const {
    return [checkpoint = checkpoint_, from = &tensor, columns, first](
               std::uint64_t row, std::uint64_t /*count*/, std::span<float> out) {
        from->read((first + row) * columns, out);
    };
}

EncoderTensors::Ref EncoderTensors::add(std::string name, m4_dtype dtype, m4_layout layout,
                                        Shape shape, RowReader rows) {
    TensorSpec spec;
    spec.name = std::move(name);
    spec.dtype = dtype;
    spec.layout = layout;
    spec.part = part_;
    spec.shape = std::move(shape);
    return ProgramBuilder::tensor(builder_.add_tensor(std::move(spec), std::move(rows)));
}

EncoderTensors::Ref EncoderTensors::matrix(const std::string& name, const Shape& shape) {
    return matrix_rows(name, shape, 0, shape[0]);
}

EncoderTensors::Ref EncoderTensors::matrix_rows(const std::string& name, const Shape& shape,
                                                std::uint64_t first, std::uint64_t count) {
    const SourceTensor& tensor = require(name, shape);
    const std::uint64_t columns = columns_of(shape);
    return add(count == shape[0] ? name : part_of(name, first),
               stored_type(tensor, options_.stored), M4_LAYOUT_ROWS16, {count, columns},
               reader(tensor, columns, first));
}

EncoderTensors::Ref EncoderTensors::made_matrix(const std::string& name, const Shape& shape,
                                                RowReader rows) {
    const bool whole_blocks = shape[1] % M4_IMAGE_QUANT_ELEMENTS == 0;
    const m4_dtype wanted = options_.stored.value_or(M4_DTYPE_F16);
    const m4_dtype stored = is_quantized(wanted) && !whole_blocks ? M4_DTYPE_F16 : wanted;
    return add(name, stored, M4_LAYOUT_ROWS16, shape, std::move(rows));
}

/// A column at a time: a text or image projection is small.
EncoderTensors::Ref EncoderTensors::turned_matrix(const std::string& name, std::uint64_t columns,
                                                  std::uint64_t rows) {
    const SourceTensor& tensor = require(name, {columns, rows});
    return made_matrix(name, {rows, columns},
                       [checkpoint = checkpoint_, from = &tensor, columns, rows](
                           std::uint64_t first, std::uint64_t count, std::span<float> out) {
                           std::vector<float> part(count);
                           for (std::uint64_t i = 0; i < columns; ++i) {
                               from->read(i * rows + first, part);
                               for (std::uint64_t r = 0; r < count; ++r) {
                                   out[r * columns + i] = part[r];
                               }
                           }
                       });
}

EncoderTensors::Ref EncoderTensors::scaled_matrix(const std::string& name, const Shape& shape,
                                                  float factor) {
    const SourceTensor& tensor = require(name, shape);
    return made_matrix(name, shape, scaled(reader(tensor, columns_of(shape), 0), factor));
}

EncoderTensors::Ref EncoderTensors::column_scaled_matrix(const std::string& name,
                                                         const Shape& shape,
                                                         std::vector<float> factors) {
    const SourceTensor& tensor = require(name, shape);
    return made_matrix(name, shape,
                       [rows = reader(tensor, columns_of(shape), 0), factors = std::move(factors)](
                           std::uint64_t first, std::uint64_t count, std::span<float> out) {
                           rows(first, count, out);
                           for (std::size_t i = 0; i < out.size(); ++i) {
                               out[i] *= factors[i % factors.size()];
                           }
                       });
}

EncoderTensors::Ref EncoderTensors::scaled_vector(const std::string& name, std::uint64_t length,
                                                  float factor) {
    const SourceTensor& tensor = require(name, {length});
    return add(name, M4_DTYPE_F32, M4_LAYOUT_PLAIN, {length},
               scaled(reader(tensor, length, 0), factor));
}

EncoderTensors::Ref EncoderTensors::vector(const std::string& name, std::uint64_t length) {
    return vector_part(name, length, 0, length);
}

EncoderTensors::Ref EncoderTensors::vector_part(const std::string& name, std::uint64_t length,
                                                std::uint64_t first, std::uint64_t count) {
    const SourceTensor& tensor = require(name, {length});
    return add(count == length ? name : part_of(name, first), M4_DTYPE_F32, M4_LAYOUT_PLAIN,
               {count},
               [checkpoint = checkpoint_, from = &tensor, first](
                   std::uint64_t /*row*/, std::uint64_t /*count*/, std::span<float> out) {
                   from->read(first, out);
               });
}

EncoderTensors::Ref EncoderTensors::table(const std::string& name, const Shape& shape) {
    const SourceTensor& tensor = require(name, shape);
    const std::uint64_t columns = shape.back();
    const std::uint64_t rows = tensor.element_count() / columns;
    return add(name, M4_DTYPE_F32, M4_LAYOUT_PLAIN, {rows, columns}, reader(tensor, columns, 0));
}

void EncoderTensors::finish(EncoderProperties properties, Program program) {
    std::vector<Program> programs;
    programs.push_back(std::move(program));
    finish(std::move(properties), std::move(programs));
}

void EncoderTensors::finish(EncoderProperties properties, std::vector<Program> programs) {
    const std::vector<std::string>& ignored = properties.ignored;
    for (const SourceTensor& tensor : checkpoint_->tensors()) {
        const bool known = used_.contains(tensor.name) ||
                           std::any_of(ignored.begin(), ignored.end(), [&](const auto& prefix) {
                               return tensor.name.starts_with(prefix);
                           });
        if (!known) {
            throw Error(tensor.place(), "is no part of an encoder of this architecture");
        }
    }
    Part part;
    part.name = std::move(properties.part_name);
    part.kind = properties.kind;
    part.architecture = std::move(properties.architecture);
    part.source_digest = source_digest(std::move(digest_));
    part.parameters = parameters_;
    part.context_length = properties.text.context;
    part.vocabulary = properties.text.vocabulary;
    if (!properties.text.tokenizer.empty()) {
        part.tokenizer_tensor =
            builder_.add_section("tokenizer", part_, std::move(properties.text.tokenizer));
    }
    part.recipe = std::move(properties.recipe);
    part.space = std::move(properties.space);
    part.labels = std::move(properties.labels);
    part.memory_rows = properties.memory_rows;
    part.transcription = std::move(properties.transcription);
    part.programs = std::move(programs);
    builder_.add_part(std::move(part));
}

}  // namespace m4::firmware
