// SPDX-License-Identifier: MIT
#include "importer_target.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "checkpoint_writer.hpp"
#include "importers/adapter_import.hpp"
#include "importers/clip_tokenizer.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/error.hpp"
#include "lib/tokenizer.hpp"
#include "small_encoders.hpp"
#include "temp_folder.hpp"

namespace m4::fuzz {

namespace {

constexpr std::uint64_t kVocabulary = 520;

struct Kind {
    const char* file;
    const char* from;  ///< what is imported; null: the file is a tokeniser
    bool adapter = false;
};
constexpr std::array<Kind, 16> kKinds = {{
    {"model.safetensors", "model.safetensors"},
    {"model.gguf", "model.gguf"},
    {"model.tflite", "model.tflite"},
    {"merges.txt", nullptr},
    {"tokenizer.json", nullptr},
    {"vit/config.json", "vit"},
    {"vit/preprocessor_config.json", "vit/model.safetensors"},
    {"clip/merges.txt", "clip/model.safetensors"},
    {"whisper/generation_config.json", "whisper/model.safetensors"},
    {"whisper/vocab.json", "whisper/model.safetensors"},
    {"whisper/tokenizer.json", "whisper/model.safetensors"},
    {"whisper/model.config.json", "whisper/model.safetensors"},
    {"lora/adapter_config.json", "lora", true},
    {"tuned/adapter_model.safetensors", "tuned", true},
    {"lora.gguf", "lora.gguf", true},
    {"head.safetensors", "head.safetensors", true},
}};

/// The folder of this process, with the weights that configurations are beside.
const test::TempFolder& workplace() {
    static const test::TempFolder folder;
    static const bool made = [] {
        for (const char* name : {"vit", "clip", "whisper", "lora", "tuned"}) {
            std::filesystem::create_directory(folder / name);
        }
        test::write_file(folder / "vit" / "model.safetensors",
                         test::safetensors_bytes(test::small_vit()));
        test::write_file(folder / "clip" / "model.safetensors",
                         test::safetensors_bytes(test::small_clip()));
        test::write_file(folder / "whisper" / "config.json", test::whisper_config(whisper_dims()));
        test::write_file(
            folder / "whisper" / "model.safetensors",
            test::safetensors_bytes(test::random_whisper(whisper_dims(), 1).checkpoint()));
        test::write_file(folder / "lora" / "adapter_model.safetensors", peft_weights());
        test::write_file(folder / "tuned" / "adapter_config.json", peft_config());
        return true;
    }();
    (void)made;
    return folder;
}

void require(bool holds, const char* promise) {
    if (!holds) {
        (void)std::fprintf(stderr, "promise broken: %s\n", promise);
        std::abort();
    }
}

void check_adapter_import(const std::filesystem::path& from) {
    const auto imported = firmware::import_adapter({.from = from});
    const auto file = firmware::encode_adapter(imported.draft.adapter);
    const auto adapter = firmware::read_adapter(file);
    require(adapter.pairs.size() == imported.norms.size(), "each pair has an effect");
    require(!firmware::is_bound(adapter), "without a base nothing is bound");
}

void check_tokenizer(const std::filesystem::path& file) {
    const auto section = firmware::read_clip_tokenizer(file, kVocabulary);
    const firmware::Tokenizer tokenizer(section, "section");
    for (const std::uint32_t id : tokenizer.encode("a Bad \xc3\xa9 abc's 12 \xff!?", true)) {
        require(id < kVocabulary, "ids are below the vocabulary");
    }
}

}  // namespace

bool is_safetensors(std::uint8_t first) {
    return first % kKinds.size() == 0;
}

bool check_importer(std::span<const std::uint8_t> bytes) {
    if (bytes.empty()) {
        return false;
    }
    const Kind& kind = kKinds.at(bytes[0] % kKinds.size());
    const auto& folder = workplace();
    const auto file = folder / kind.file;
    const auto content = bytes.subspan(1);
    test::write_file(file, {reinterpret_cast<const char*>(content.data()), content.size()});
    bool accepted = false;
    try {
        if (kind.from == nullptr) {
            check_tokenizer(file);
        } else if (kind.adapter) {
            check_adapter_import(folder / kind.from);
        } else {
            firmware::ImageBuilder builder("fuzz", "1", 0);
            firmware::import_model({.from = folder / kind.from}, builder);
        }
        accepted = true;
    } catch (const firmware::Error& refused) {
        require(!refused.place().empty(), "an error names its place");
    } catch (const std::exception& other) {
        (void)std::fprintf(stderr, "%s: %s\n", kind.file, other.what());
        require(false, "a file is refused by an Error");
    }
    std::filesystem::remove(file);
    return accepted;
}

}  // namespace m4::fuzz
