// SPDX-License-Identifier: MIT
// Heads by themselves: a linear layer over what an encoder gives, such as a
// regression over its embeddings leaves.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "adapter_sources.hpp"
#include "lib/error.hpp"
#include "lib/limits.hpp"
#include "lib/part_ports.hpp"
#include "mapped_file.hpp"
#include "safetensors.hpp"

namespace m4::firmware {

namespace {

Checkpoint open_head(const std::filesystem::path& file) {
    Checkpoint checkpoint(file.string());
    add_safetensors(file, checkpoint);
    return checkpoint;
}

std::string metadata_of(const Checkpoint& checkpoint, const char* key) {
    const auto found = checkpoint.metadata().find(key);
    return found == checkpoint.metadata().end() ? std::string{} : found->second;
}

HeadInput::Pick pick_of(const Checkpoint& checkpoint) {
    const std::string input = metadata_of(checkpoint, "input");
    if (input == "embedding") {
        return HeadInput::Pick::whole;
    }
    if (input == "mean of hidden") {
        return HeadInput::Pick::mean;
    }
    if (input == "cls") {
        return HeadInput::Pick::first;
    }
    throw Error(checkpoint.place() + ": metadata 'input'",
                shown(input) + " is not supported; supported: embedding, mean of hidden, cls");
}

Role role_of(HeadInput::Pick pick) {
    return pick == HeadInput::Pick::whole ? Role::embedding : Role::hidden;
}

const SourceTensor& weight_of(const Checkpoint& checkpoint) {
    const auto* weight = checkpoint.find("weight");
    if (weight == nullptr || weight->shape.size() != 2 || weight->shape[0] > kMaxLabels ||
        weight->shape[1] > M4_IMAGE_DIM_MAX) {
        throw Error(checkpoint.place() + ": tensor 'weight'",
                    "is missing, or not of [labels, width] with at most 65536 labels");
    }
    return *weight;
}

/// A vector of `count`, or `otherwise` in each place where there is none.
std::vector<double> vector_of(const Checkpoint& checkpoint, const char* name, std::uint64_t count,
                              double otherwise) {
    const auto* tensor = checkpoint.find(name);
    if (tensor == nullptr) {
        return std::vector<double>(count, otherwise);
    }
    if (tensor->shape != std::vector<std::uint64_t>{count}) {
        throw Error(tensor->place(), "has shape " + shape_text(tensor->shape) + " instead of [" +
                                         std::to_string(count) + "]");
    }
    const std::vector<float> values = read_all(*tensor);
    return {values.begin(), values.end()};
}

std::vector<std::string> labels_of(const Checkpoint& checkpoint, std::uint64_t count) {
    const std::string text = metadata_of(checkpoint, "labels");
    const std::string place = checkpoint.place() + ": metadata 'labels'";
    if (text.empty()) {
        return {};
    }
    const auto json = nlohmann::json::parse(text, nullptr, false);
    const bool good = json.is_array() && json.size() == count &&
                      std::all_of(json.begin(), json.end(),
                                  [](const nlohmann::json& one) { return one.is_string(); });
    if (!good) {
        throw Error(place, "is no JSON list of " + std::to_string(count) + " strings");
    }
    return json.get<std::vector<std::string>>();
}

float narrow(double value, const Checkpoint& checkpoint) {
    const auto out = static_cast<float>(value);
    if (!std::isfinite(out)) {
        throw Error(checkpoint.place(), "a value with mean and scale folded in is not finite");
    }
    return out;
}

/// Features are (x - mean) / scale: that goes into the layer, in double.
HeadLayer folded_layer(const Checkpoint& checkpoint) {
    const SourceTensor& weight = weight_of(checkpoint);
    const std::uint64_t labels = weight.shape[0];
    const std::uint64_t columns = weight.shape[1];
    const auto mean = vector_of(checkpoint, "mean", columns, 0);
    const auto scale = vector_of(checkpoint, "scale", columns, 1);
    const auto bias = vector_of(checkpoint, "bias", labels, 0);
    if (std::find(scale.begin(), scale.end(), 0.0) != scale.end()) {
        throw Error(checkpoint.place() + ": tensor 'scale'", "has an element that is 0");
    }
    HeadLayer layer;
    layer.label_count = static_cast<std::uint32_t>(labels);
    layer.labels = labels_of(checkpoint, labels);
    layer.weight = read_all(weight);
    for (std::uint64_t row = 0; row < labels; ++row) {
        double sum = bias[row];
        for (std::uint64_t column = 0; column < columns; ++column) {
            float& value = layer.weight[row * columns + column];
            const double standardised = double{value} / scale[column];
            sum -= standardised * mean[column];
            value = narrow(standardised, checkpoint);
        }
        layer.bias.push_back(narrow(sum, checkpoint));
    }
    return layer;
}

}  // namespace

bool head_fits(const std::filesystem::path& file, const Part& part) {
    const Checkpoint checkpoint = open_head(file);
    return part.kind == PartKind::encoder &&
           port_shape(part, role_of(pick_of(checkpoint))).columns == weight_of(checkpoint).shape[1];
}

AdapterDraft import_head(const std::filesystem::path& file, const HeadBase& base,
                         std::optional<m4_dtype> wanted) {
    const Checkpoint checkpoint = open_head(file);
    if (metadata_of(checkpoint, "kind") != "head") {
        throw Error(checkpoint.place() + ": metadata 'kind'",
                    "is not 'head'; of safetensors files only heads are adapters by themselves");
    }
    for (const SourceTensor& tensor : checkpoint.tensors()) {
        if (tensor.name != "weight" && tensor.name != "bias" && tensor.name != "mean" &&
            tensor.name != "scale") {
            throw Error(tensor.place(), "is no part of a head");
        }
    }
    HeadInput input;
    input.pick = pick_of(checkpoint);
    input.columns = static_cast<std::uint32_t>(weight_of(checkpoint).shape[1]);
    if (input.pick != HeadInput::Pick::whole) {
        if (base.part == nullptr) {
            throw Error(checkpoint.place(),
                        "takes hidden states, and how many rows these have "
                        "only the base says: give --base");
        }
        const FeatureShape hidden = port_shape(*base.part, Role::hidden);
        if (hidden.columns != input.columns) {
            throw Error(checkpoint.place(), "takes rows of " + std::to_string(input.columns) +
                                                ", but those of part " + base.part->name +
                                                " have " + std::to_string(hidden.columns));
        }
        input.rows = hidden.rows;
    }
    AdapterDraft draft;
    draft.place = file.string();
    draft.adapter.name = adapter_name(file.stem().string());
    draft.adapter.source = "safetensors";
    add_head(draft, folded_layer(checkpoint), input, wanted);
    return draft;
}

}  // namespace m4::firmware
