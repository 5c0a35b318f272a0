// SPDX-License-Identifier: MIT
// A linear layer from a space to rows of the backbone. Several rows an input are one
// matrix, one row's part behind the other: windows of its result as wide as a row.
#include <algorithm>
#include <set>

#include "encoder_tensors.hpp"
#include "encoders.hpp"
#include "lib/error.hpp"
#include "lib/part_ports.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kWeight = "weight";

/// The one matrix's name, but for "weight"; none: the file is not of one linear layer.
std::optional<std::string> layer_of(const Checkpoint& checkpoint) {
    const auto& tensors = checkpoint.tensors();
    for (const SourceTensor& tensor : tensors) {
        const std::string_view name = tensor.name;
        if (!name.ends_with(kWeight) || tensor.shape.size() != 2) {
            continue;
        }
        std::string layer(name.substr(0, name.size() - kWeight.size()));
        const bool alone = std::all_of(tensors.begin(), tensors.end(), [&](const auto& other) {
            return other.name == tensor.name || other.name == layer + "bias";
        });
        if (alone && (layer.empty() || layer.ends_with('.'))) {
            return layer;
        }
    }
    return std::nullopt;
}

/// Columns of the rows that the backbone takes in the place of tokens'.
std::uint32_t backbone_columns(const Package& package, const std::string& place) {
    for (const Part& part : package.parts) {
        const std::uint32_t columns = port_shape(part, Role::embedded_rows).columns;
        if (part.kind == PartKind::backbone && columns != 0) {
            return columns;
        }
    }
    throw Error(place, "is a projector, and no backbone was packed before it");
}

/// The space that was asked for; else the file's; else the only one.
std::string space_of(const Checkpoint& checkpoint, const ImportOptions& options,
                     const Package& package) {
    if (!options.space.empty()) {
        return options.space;
    }
    const auto named = checkpoint.metadata().find("space");
    if (named != checkpoint.metadata().end()) {
        return named->second;
    }
    std::set<std::string> spaces;
    std::string list;
    for (const Part& part : package.parts) {
        const bool embeds = port_shape(part, Role::embedding).columns != 0;
        if (embeds && !part.space.empty() && spaces.insert(part.space).second) {
            list += (list.empty() ? "" : ", ") + part.space;
        }
    }
    if (spaces.size() != 1) {
        throw Error(checkpoint.place(), "is a projector, and its space is not said; there " +
                                            (list.empty() ? "is none" : "are " + list));
    }
    return *spaces.begin();
}

}  // namespace

bool is_projector(const Checkpoint& checkpoint, const ImportOptions& options) {
    const auto layer = layer_of(checkpoint);
    if (!layer) {
        return false;
    }
    const auto kind = checkpoint.metadata().find("kind");
    if (kind != checkpoint.metadata().end()) {
        return kind->second == "projector";
    }
    return layer->find("proj") != std::string::npos ||
           options.part_name.find("proj") != std::string::npos;
}

void import_projector(const EncoderSource& source, const ImportOptions& options,
                      ImageBuilder& builder) {
    const Checkpoint& checkpoint = *source.checkpoint;
    const std::string layer = layer_of(checkpoint).value_or("");
    const SourceTensor* weight = checkpoint.find(layer + std::string(kWeight));
    if (weight == nullptr) {
        throw Error(checkpoint.place(), "is no linear layer");
    }
    const std::uint64_t columns = backbone_columns(builder.package(), checkpoint.place());
    const std::uint64_t rows = weight->shape[0];
    if (rows % columns != 0 || rows > M4_IMAGE_DIM_MAX || weight->shape[1] > M4_IMAGE_DIM_MAX) {
        throw Error(weight->place(), "has " + std::to_string(rows) +
                                         " rows, not whole rows of the backbone's " +
                                         std::to_string(columns) + " columns");
    }
    EncoderTensors tensors(source.checkpoint, options, builder);
    ProgramBuilder program("project");
    const auto width = static_cast<std::uint32_t>(rows);
    auto x = program.features(1, static_cast<std::uint32_t>(weight->shape[1]));
    const auto matrix = tensors.matrix(weight->name, weight->shape);
    const bool biased = checkpoint.find(layer + "bias") != nullptr;
    x = program.linear(
        x, matrix, biased ? tensors.vector(layer + "bias", rows) : ProgramBuilder::Ref{}, width);
    if (rows != columns) {
        const auto row = static_cast<std::uint32_t>(columns);
        x = program.unfold(x, {.width = width, .kernel_w = row, .stride_w = row});
    }
    program.output(Role::hidden, x);
    tensors.finish({.part_name = options.part_name.empty() ? "projector" : options.part_name,
                    .architecture = "linear",
                    .kind = PartKind::projector,
                    .space = space_of(checkpoint, options, builder.package())},
                   program.finish());
}

}  // namespace m4::firmware
