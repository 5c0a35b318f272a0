// SPDX-License-Identifier: MIT
// Adapters as llama.cpp keeps them: GGUF files of general.type "adapter".
#include <map>

#include "adapter_sources.hpp"
#include "gguf.hpp"
#include "lib/error.hpp"
#include "llama.hpp"
#include "mapped_file.hpp"

namespace m4::firmware {

namespace {

struct Factors {
    const SourceTensor* a = nullptr;
    const SourceTensor* b = nullptr;
};

void require_text(const GgufFile& file, const char* key, const std::string& wanted) {
    const auto value = file.string_value(key);
    if (value.value_or("") != wanted) {
        throw Error(file.key_place(key),
                    shown(value.value_or("nothing")) + " is not supported; supported: " + wanted);
    }
}

void check_keys(const GgufFile& file) {
    require_text(file, "general.type", "adapter");
    require_text(file, "adapter.type", "lora");
    require_text(file, "general.architecture", "llama");
    for (const auto& [key, value] : file.metadata()) {
        if (key.starts_with("adapter.") && key != "adapter.type" && key != "adapter.lora.alpha") {
            throw Error(file.key_place(key), "is not supported by this version");
        }
    }
}

std::map<std::string, Factors> collect(const GgufFile& file) {
    constexpr std::string_view kA = ".lora_a";
    constexpr std::string_view kB = ".lora_b";
    std::map<std::string, Factors> out;
    for (const SourceTensor& tensor : file.checkpoint()->tensors()) {
        const std::string_view name = tensor.name;
        const bool is_a = name.ends_with(kA);
        if (!is_a && !name.ends_with(kB)) {
            throw Error(tensor.place(), "is neither a .lora_a nor a .lora_b");
        }
        Factors& factors = out[std::string(name.substr(0, name.size() - kA.size()))];
        (is_a ? factors.a : factors.b) = &tensor;
    }
    return out;
}

}  // namespace

AdapterDraft import_gguf_lora(const std::filesystem::path& path, std::optional<m4_dtype> wanted) {
    const GgufFile file(path);
    check_keys(file);
    // Without alpha, or with 0, the factors are taken as they are.
    const double alpha = file.real_value("adapter.lora.alpha").value_or(0);
    AdapterDraft draft;
    draft.place = path.string();
    draft.adapter.name = adapter_name(path.stem().string());
    draft.adapter.source = "gguf";
    draft.adapter.architecture = "llama";
    for (const auto& [name, factors] : collect(file)) {
        const SourceTensor& any = factors.a != nullptr ? *factors.a : *factors.b;
        if (factors.a == nullptr || factors.b == nullptr) {
            throw Error(any.place(), std::string("has no .lora_") +
                                         (factors.a == nullptr ? "a" : "b") + " beside it");
        }
        const auto canonical = llama_projection_name(name);
        if (!canonical) {
            throw Error(any.place(), "is of no matrix of a llama that can be changed");
        }
        const double rank = any.shape.empty() ? 1.0 : static_cast<double>(factors.a->shape.front());
        draft.add_pair(*canonical, *factors.a, *factors.b, alpha == 0 ? 1.0 : alpha / rank,
                       M4_ROW_ORDER_INTERLEAVED, wanted);
    }
    return draft;
}

}  // namespace m4::firmware
