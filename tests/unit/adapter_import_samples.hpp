// SPDX-License-Identifier: MIT
#pragma once

#include <importers/adapter_import.hpp>
#include <importers/import.hpp>
#include <lib/builder.hpp>
#include <lib/half.hpp>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "checkpoint_writer.hpp"
#include "image_samples.hpp"
#include "temp_folder.hpp"

/// PEFT folders and bases for tests.
namespace m4::test {

namespace fs = std::filesystem;
using nlohmann::json;
using namespace firmware;

inline std::vector<float> numbers(std::uint64_t count, std::uint32_t seed) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> out(count);
    for (float& value : out) {
        value = from_half(to_half(uniform(engine)));
    }
    return out;
}

/// A PEFT folder for random_llama's default shape; a case changes config or tensors.
struct PeftFolder {
    TempFolder temp;
    json config = {{"peft_type", "LORA"},
                   {"task_type", "CAUSAL_LM"},
                   {"r", 4},
                   {"lora_alpha", 8},
                   {"bias", "none"},
                   {"target_modules", {"q_proj", "v_proj"}},
                   {"lora_dropout", 0.1},
                   {"base_model_name_or_path", "some/llama"},
                   {"use_dora", false},
                   {"loftq_config", json::object()},
                   {"rank_pattern", json::object()}};
    std::map<std::string, SafeTensor> tensors;

    PeftFolder() {
        for (const int layer : {0, 1}) {
            add(attention(layer, "q_proj"), 32, 32, 4);
            add(attention(layer, "v_proj"), 16, 32, 4);
        }
    }
    static std::string attention(int layer, const std::string& name) {
        return "model.layers." + std::to_string(layer) + ".self_attn." + name;
    }
    void add(const std::string& module, std::uint64_t rows, std::uint64_t columns,
             std::uint64_t rank, Stored type = Stored::f32) {
        put(module + ".lora_A.weight", {rank, columns}, type);
        put(module + ".lora_B.weight", {rows, rank}, type);
    }
    void put(const std::string& name, const std::vector<std::uint64_t>& shape,
             Stored type = Stored::f32) {
        std::uint64_t count = 1;
        for (const auto extent : shape) {
            count *= extent;
        }
        const char* names = type == Stored::f16 ? "F16" : type == Stored::bf16 ? "BF16" : "F32";
        tensors["base_model.model." + name] = {
            names, shape,
            store_values(numbers(count, static_cast<std::uint32_t>(tensors.size() + 1)), type)};
    }
    [[nodiscard]] fs::path path() const { return temp / "my adapter"; }
    void write() const {
        fs::create_directory(path());
        write_file(path() / "adapter_config.json", config.dump());
        write_file(path() / "adapter_model.safetensors", safetensors_bytes(tensors));
    }
    [[nodiscard]] AdapterImport import(const fs::path& base = {},
                                       std::optional<m4_dtype> stored = {}) const {
        write();
        AdapterImportOptions options;
        options.from = path();
        options.base = base;
        options.stored = stored;
        return import_adapter(options);
    }
    [[nodiscard]] std::string refused(const fs::path& base = {}) const {
        return refusal([&] { (void)import(base); });
    }
};

/// random_llama's default shape as a Hugging Face folder, a GGUF file and their images.
struct Bases {
    TempFolder temp;
    LlamaCheckpoint model = random_llama({}, 3);
    fs::path hf = temp / "hf";
    fs::path gguf = temp / "base.gguf";

    Bases() {
        write_hf_folder(model, hf, Stored::f32);
        write_file(gguf, llama_gguf(model, Stored::f16).bytes());
    }
    [[nodiscard]] fs::path image(const fs::path& from, m4_dtype stored) const {
        const fs::path to = temp / (from.filename().string() + std::to_string(stored));
        pack(from, to, stored);
        return to;
    }
    static void pack(const fs::path& from, const fs::path& to, m4_dtype stored) {
        ImageBuilder builder("base", "1", 0, M4_IMAGE_CHUNK_BYTES);
        ImportOptions options;
        options.from = from;
        options.stored = stored;
        import_model(options, builder);
        builder.write(to, true);
    }
};

inline const Bases& bases() {
    static const Bases made;
    return made;
}

}  // namespace m4::test
