// SPDX-License-Identifier: MIT
#include "import.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "encoders.hpp"
#include "gguf.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "lib/quant.hpp"
#include "llama.hpp"
#include "mapped_file.hpp"
#include "safetensors.hpp"

namespace m4::firmware {

namespace {

constexpr const char* kConfigFile = "config.json";

/// One row an architecture; a new one is a row here and a file of its own.
struct Architecture {
    std::string_view name;         ///< general.architecture of GGUF, model_type of config.json
    std::string_view model_class;  ///< architectures[0] of config.json
    void (*from_gguf)(const GgufFile&, const ImportOptions&, ImageBuilder&);  ///< or null
    void (*from_folder)(const std::filesystem::path&, const JsonObject&, const ImportOptions&,
                        ImageBuilder&);
};
void import_whisper_folder(const std::filesystem::path& folder, const JsonObject& /*config*/,
                           const ImportOptions& options, ImageBuilder& builder) {
    import_whisper({folder / "model.safetensors", open_safetensors_folder(folder)}, options,
                   builder);
}

void import_clip_folder(const std::filesystem::path& folder, const JsonObject& /*config*/,
                        const ImportOptions& options, ImageBuilder& builder) {
    import_clip({folder / "model.safetensors", open_safetensors_folder(folder)}, options, builder);
}

void import_vit_folder(const std::filesystem::path& folder, const JsonObject& /*config*/,
                       const ImportOptions& options, ImageBuilder& builder) {
    import_vit({folder / "model.safetensors", open_safetensors_folder(folder)}, options, builder);
}

constexpr Architecture kArchitectures[] = {
    {"llama", "LlamaForCausalLM", import_llama, import_llama},
    {"whisper", "WhisperForConditionalGeneration", nullptr, import_whisper_folder},
    {"clip", "CLIPModel", nullptr, import_clip_folder},
    {"vit", "ViTForImageClassification", nullptr, import_vit_folder},
    {"deit", "DeiTForImageClassification", nullptr, import_vit_folder},
    {"deit", "DeiTForImageClassificationWithTeacher", nullptr, import_vit_folder},
};

const Architecture& find_architecture(const std::string& name, const std::string& place) {
    std::string supported;
    for (const auto& row : kArchitectures) {
        if (row.name == name) {
            return row;
        }
        if (supported.find(row.name) == std::string::npos) {
            supported += (supported.empty() ? "" : ", ") + std::string(row.name);
        }
    }
    throw Error(place,
                "architecture " + shown(name) + " is not supported; supported: " + supported);
}

/// Encoders are known by a tensor of theirs.
struct Encoder {
    std::string_view tensor;  ///< or what its name begins with
    void (*import)(const EncoderSource&, const ImportOptions&, ImageBuilder&);
};
constexpr Encoder kEncoders[] = {
    {"transformer.embed.lin.weight", import_limu_bert},
    {"visual.conv1.weight", import_clip},
    {"vision_model.embeddings.", import_clip},
    {"text_model.embeddings.", import_clip},
    {"vit.embeddings.", import_vit},
    {"deit.embeddings.", import_vit},
    {"blocks.0.attn.qkv.", import_vit},
    {"patch_embed.proj.weight", import_mean_vit},
    {"modality_preprocessors.", import_imagebind},
    {"model.encoder.conv1.weight", import_whisper},
};

void import_safetensors(const ImportOptions& options, ImageBuilder& builder) {
    auto checkpoint = std::make_shared<Checkpoint>(options.from.string());
    add_safetensors(options.from, *checkpoint);
    const auto& tensors = checkpoint->tensors();
    for (const Encoder& row : kEncoders) {
        if (std::any_of(tensors.begin(), tensors.end(), [&](const SourceTensor& tensor) {
                return tensor.name.starts_with(row.tensor);
            })) {
            row.import({options.from, checkpoint}, options, builder);
            return;
        }
    }
    if (is_projector(*checkpoint, options)) {
        import_projector({options.from, checkpoint}, options, builder);
        return;
    }
    throw Error(options.from.string(),
                "holds no encoder that is known (LIMU-BERT, ViT, DeiT, CLIP, ImageBind, Whisper); "
                "language models are folders or .gguf files");
}

void import_gguf(const ImportOptions& options, ImageBuilder& builder) {
    const GgufFile file(options.from);
    const auto name = file.string_value("general.architecture");
    if (!name) {
        throw Error(file.key_place("general.architecture"), "is missing");
    }
    const auto& row = find_architecture(*name, file.place());
    if (row.from_gguf == nullptr) {
        throw Error(file.place(),
                    "architecture " + shown(*name) + " is imported from Hugging Face folders only");
    }
    row.from_gguf(file, options, builder);
}

void check_class(const JsonObject& config, const Architecture& row) {
    const auto classes = config.json().find("architectures");
    if (classes == config.json().end() || !classes->is_array() || classes->empty()) {
        return;
    }
    const auto& first = classes->front();
    std::string supported;
    for (const Architecture& other : kArchitectures) {
        if (other.name != row.name) {
            continue;
        }
        if (first.is_string() && first.get<std::string>() == other.model_class) {
            return;
        }
        supported += (supported.empty() ? "" : ", ") + std::string(other.model_class);
    }
    throw Error(config.key_place("architectures"),
                first.dump() + " is not supported; supported: " + supported);
}

void import_folder(const ImportOptions& options, ImageBuilder& builder) {
    if (!is_there(options.from / kConfigFile)) {
        throw Error(options.from.string(),
                    std::string("has no ") + kConfigFile + "; a Hugging Face folder is wanted");
    }
    const auto config = JsonObject::read(options.from / kConfigFile);
    const auto name = config.string_value("model_type");
    if (!name) {
        throw Error(config.key_place("model_type"), "is missing");
    }
    const auto& row = find_architecture(*name, config.place());
    check_class(config, row);
    row.from_folder(options.from, config, options, builder);
}

}  // namespace

void import_model(const ImportOptions& options, ImageBuilder& builder) {
    if (options.stored && *options.stored != M4_DTYPE_F32 && *options.stored != M4_DTYPE_F16 &&
        !is_quantized(*options.stored)) {
        throw Error("import", "matrices are stored as F32, F16, Q8 or Q4");
    }
    std::error_code ignored;
    if (std::filesystem::is_directory(options.from, ignored)) {
        import_folder(options, builder);
    } else if (!is_there(options.from)) {
        throw Error(options.from.string(), "does not exist");
    } else if (looks_like_gguf(options.from)) {
        import_gguf(options, builder);
    } else if (options.from.extension() == ".safetensors") {
        import_safetensors(options, builder);
    } else if (options.from.extension() == ".tflite") {
        import_kwt(options.from, options, builder);
    } else {
        throw Error(
            options.from.string(),
            "is neither a GGUF file nor a Hugging Face folder nor a .safetensors or .tflite file");
    }
}

}  // namespace m4::firmware
