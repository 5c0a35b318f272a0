// SPDX-License-Identifier: MIT
// Adapters as PEFT saves them. A module is named as in the base, behind a prefix.
#include <algorithm>
#include <map>
#include <memory>

#include "adapter_sources.hpp"
#include "lib/error.hpp"
#include "lib/part_ports.hpp"
#include "mapped_file.hpp"
#include "peft_config.hpp"
#include "safetensors.hpp"

namespace m4::firmware {

namespace {

constexpr std::string_view kPrefix = "base_model.model.";

struct Factors {
    const SourceTensor* a = nullptr;
    const SourceTensor* b = nullptr;
};

/// What the end of a name says, where it is not a factor of a linear layer.
std::string unsupported(std::string_view name) {
    if (name.find(".lora_embedding_") != std::string_view::npos) {
        return "changes an embedding, which is not supported";
    }
    if (name.find(".lora_magnitude_vector") != std::string_view::npos) {
        return "is DoRA's, which is not supported";
    }
    if (name.find(".lora_") != std::string_view::npos) {
        return "is no factor of a linear layer, and is not supported";
    }
    return "is neither a factor nor of a module that modules_to_save names";
}

/// Takes the tensor into `modules` where it is a factor.
bool add_factor(const SourceTensor& tensor, std::string_view name,
                std::map<std::string, Factors>& modules) {
    for (const bool is_a : {true, false}) {
        const std::string_view infix = is_a ? ".lora_A." : ".lora_B.";
        const auto at = name.find(infix);
        if (at == std::string_view::npos || at == 0) {
            continue;
        }
        const std::string_view rest = name.substr(at + infix.size());
        if (rest != "weight" && rest != "default.weight") {
            return false;
        }
        Factors& factors = modules[std::string(name.substr(0, at))];
        const SourceTensor*& factor = is_a ? factors.a : factors.b;
        if (factor != nullptr) {
            throw Error(tensor.place(), "is a second factor beside '" + factor->name + "'");
        }
        factor = &tensor;
        return true;
    }
    return false;
}

/// The module of a tensor that was saved whole, or nothing.
std::optional<std::string> saved_module(std::string_view name, const PeftConfig& config) {
    const auto dot = name.rfind('.');
    if (dot == std::string_view::npos) {
        return std::nullopt;
    }
    std::string_view module = name.substr(0, dot);
    for (const std::string_view wrapping : {".modules_to_save.default", ".modules_to_save"}) {
        if (module.ends_with(wrapping)) {
            module.remove_suffix(wrapping.size());
            break;
        }
    }
    const bool named = std::any_of(
        config.saved_modules.begin(), config.saved_modules.end(),
        [&](const std::string& saved) { return module == saved || module.ends_with("." + saved); });
    return named ? std::optional(std::string(module)) : std::nullopt;
}

std::shared_ptr<const Checkpoint> open_weights(const std::filesystem::path& folder) {
    const auto file = folder / "adapter_model.safetensors";
    if (!is_there(file)) {
        if (is_there(folder / "adapter_model.bin")) {
            throw Error((folder / "adapter_model.bin").string(),
                        "is pickled Python, which is not read, for reading can run code; have PEFT "
                        "save it with safe_serialization=True");
        }
        throw Error(folder.string(), "has no adapter_model.safetensors");
    }
    auto checkpoint = std::make_shared<Checkpoint>(file.string());
    add_safetensors(file, *checkpoint);
    return checkpoint;
}

void add_pairs(const std::map<std::string, Factors>& modules, const PeftConfig& config,
               AdapterDraft& draft, std::optional<m4_dtype> wanted) {
    std::vector<std::string> names;
    for (const auto& [module, factors] : modules) {
        const SourceTensor& any = factors.a != nullptr ? *factors.a : *factors.b;
        if (factors.a == nullptr || factors.b == nullptr) {
            throw Error(any.place(), std::string("has no lora_") +
                                         (factors.a == nullptr ? "A" : "B") + " beside it");
        }
        if (const std::string why = config.untargeted(module); !why.empty()) {
            throw Error(any.place(), "is not meant by " + config.place + ": " + why);
        }
        const std::uint32_t rank = config.rank(module);
        if (any.shape.empty() || any.shape.front() != rank) {
            throw Error(any.place(), "has shape " + shape_text(any.shape) + ", but " +
                                         config.place + " says rank " + std::to_string(rank));
        }
        // Whether RoPE turns the rows only the image knows: docs/adapter-format.md.
        draft.add_pair(module + ".weight", *factors.a, *factors.b, config.scale(module),
                       M4_ROW_ORDER_HALF_SPLIT, wanted);
        names.push_back(module);
    }
    config.require_all_used(names);
}

std::filesystem::path last_name(const std::filesystem::path& path) {
    const auto whole = std::filesystem::absolute(path).lexically_normal();
    return whole.has_filename() ? whole.filename() : whole.parent_path().filename();
}

}  // namespace

PeftImport import_peft(const std::filesystem::path& folder, std::optional<m4_dtype> wanted) {
    const PeftConfig config = PeftConfig::read(folder / "adapter_config.json");
    PeftImport out;
    out.checkpoint = open_weights(folder);
    std::map<std::string, Factors> modules;
    for (const SourceTensor& tensor : out.checkpoint->tensors()) {
        if (!tensor.name.starts_with(kPrefix)) {
            throw Error(tensor.place(), "does not begin with '" + std::string(kPrefix) + "'");
        }
        const std::string_view name = std::string_view(tensor.name).substr(kPrefix.size());
        if (add_factor(tensor, name, modules)) {
            continue;
        }
        const auto saved = saved_module(name, config);
        if (!saved) {
            throw Error(tensor.place(), unsupported(name));
        }
        if (std::find(out.saved.begin(), out.saved.end(), *saved) == out.saved.end()) {
            out.saved.push_back(*saved);
        }
    }
    for (const std::string& name : config.saved_modules) {
        if (std::none_of(out.saved.begin(), out.saved.end(), [&](const std::string& saved) {
                return saved == name || saved.ends_with("." + name);
            })) {
            throw Error(config.place + ": key 'modules_to_save'",
                        "names " + shown(name) + ", of which the file has no tensors");
        }
    }
    out.draft.place = folder.string();
    out.draft.adapter.name = adapter_name(last_name(folder).string());
    out.draft.adapter.task = config.task;
    out.draft.adapter.base_name = config.base_name;
    out.draft.adapter.source = "peft";
    add_pairs(modules, config, out.draft, wanted);
    return out;
}

void add_saved_head(PeftImport& peft, const HeadBase& base, std::optional<m4_dtype> wanted) {
    if (peft.saved.empty()) {
        return;
    }
    const std::string place = peft.draft.place + ": module '" + peft.saved.front() + "'";
    if (peft.saved.size() > 1) {
        throw Error(place, "is not the only one that was saved whole, and one head is supported");
    }
    if (base.part == nullptr) {
        throw Error(place, "was saved whole, and what it is needs the base: give --base");
    }
    if (base.part->kind != PartKind::encoder) {
        throw Error(place,
                    "was saved whole, which is supported of an encoder's classifier, and part " +
                        base.part->name + " is no encoder");
    }
    const auto find = [&](const std::string& end) -> const SourceTensor* {
        for (const char* wrapping : {"", ".modules_to_save", ".modules_to_save.default"}) {
            if (const auto* tensor = peft.checkpoint->find(std::string(kPrefix) +
                                                           peft.saved.front() + wrapping + end)) {
                return tensor;
            }
        }
        return nullptr;
    };
    const SourceTensor* weight = find(".weight");
    const SourceTensor* bias = find(".bias");
    const std::size_t expected = (weight != nullptr ? 1 : 0) + (bias != nullptr ? 1 : 0);
    const auto of_module = std::count_if(
        peft.checkpoint->tensors().begin(), peft.checkpoint->tensors().end(),
        [&](const SourceTensor& tensor) {
            return tensor.name.starts_with(std::string(kPrefix) + peft.saved.front() + ".");
        });
    const bool linear =
        weight != nullptr && weight->shape.size() == 2 &&
        static_cast<std::size_t>(of_module) == expected &&
        (bias == nullptr || (bias->shape.size() == 1 && bias->shape[0] == weight->shape[0]));
    if (!linear) {
        throw Error(place, "is no linear layer, and only such are supported");
    }
    const auto columns = weight->shape[1];
    HeadInput input;
    input.columns = static_cast<std::uint32_t>(columns);
    const FeatureShape hidden = port_shape(*base.part, Role::hidden);
    if (port_shape(*base.part, Role::embedding).columns != columns) {
        if (hidden.columns != columns) {
            throw Error(weight->place(), "has " + std::to_string(columns) + " columns, and part " +
                                             base.part->name + " gives rows of no such width");
        }
        input.pick = HeadInput::Pick::mean;
        input.rows = hidden.rows;
    }
    HeadLayer layer;
    layer.weight = read_all(*weight);
    layer.label_count = static_cast<std::uint32_t>(weight->shape[0]);
    if (bias != nullptr) {
        layer.bias = read_all(*bias);
    }
    add_head(peft.draft, layer, input, wanted);
}

}  // namespace m4::firmware
