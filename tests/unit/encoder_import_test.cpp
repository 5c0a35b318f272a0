// SPDX-License-Identifier: MIT
// Checkpoints of encoders: what is missing, misshapen, left over or unknown is
// refused by name, and nothing is written.
#include <doctest/doctest.h>

#include <functional>

#include "checkpoint_writer.hpp"
#include "image_samples.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/image.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

using Tensors = std::map<std::string, SafeTensor>;

std::string floats(std::size_t count) {
    return store_values(std::vector<float>(count, 0.5F), Stored::f32);
}

/// What becomes of a checkpoint: "accepted", or why not.
std::string outcome(const Tensors& tensors, const TempFolder& folder,
                    std::optional<m4_dtype> stored = {}) {
    const auto file = folder / "model.safetensors";
    write_file(file, safetensors_bytes(tensors));
    return refusal([&] {
        firmware::ImageBuilder builder("senses", "1", 0);
        firmware::import_model({.from = file, .stored = stored}, builder);
        builder.write(folder / "image", true);
    });
}

/// A ViT of one block, 8 wide, for images of 6 x 6.
Tensors small_vit() {
    Tensors tensors;
    const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
        std::size_t count = 1;
        for (const std::uint64_t side : shape) {
            count *= side;
        }
        tensors[name] = {"F32", shape, floats(count)};
    };
    add("patch_embed.proj.weight", {8, 9});
    add("patch_embed.proj.bias", {8});
    add("pos_embed", {1, 4, 8});
    const std::string block = "encoder.0.";
    add(block + "attn.in_proj_weight", {24, 8});
    add(block + "attn.in_proj_bias", {24});
    add(block + "attn.out_proj.weight", {8, 8});
    add(block + "attn.out_proj.bias", {8});
    add(block + "ffn.fc1.weight", {12, 8});
    add(block + "ffn.fc1.bias", {12});
    add(block + "ffn.fc2.weight", {8, 12});
    add(block + "ffn.fc2.bias", {8});
    for (const std::string& norm : {block + "norm1", block + "norm2", std::string("norm")}) {
        add(norm + ".weight", {8});
        add(norm + ".bias", {8});
    }
    add("classifier.weight", {3, 8});
    add("classifier.bias", {3});
    return tensors;
}

/// A Whisper of one layer, 8 wide, 4 mel bins, 12 frames, and its decoder's begin.
Tensors small_whisper() {
    Tensors tensors;
    const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
        std::size_t count = 1;
        for (const std::uint64_t side : shape) {
            count *= side;
        }
        tensors["model.encoder." + name] = {"F32", shape, floats(count)};
    };
    const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        add(name + ".weight", {rows, columns});
        add(name + ".bias", {rows});
    };
    add("conv1.weight", {8, 4, 3});
    add("conv1.bias", {8});
    add("conv2.weight", {8, 8, 3});
    add("conv2.bias", {8});
    add("embed_positions.weight", {6, 8});
    const std::string layer = "layers.0.";
    linear(layer + "self_attn.q_proj", 8, 8);
    add(layer + "self_attn.k_proj.weight", {8, 8});
    linear(layer + "self_attn.v_proj", 8, 8);
    linear(layer + "self_attn.out_proj", 8, 8);
    linear(layer + "fc1", 12, 8);
    linear(layer + "fc2", 8, 12);
    for (const std::string& norm :
         {layer + "self_attn_layer_norm", layer + "final_layer_norm", std::string("layer_norm")}) {
        add(norm + ".weight", {8});
        add(norm + ".bias", {8});
    }
    tensors["model.decoder.embed_tokens.weight"] = {"F32", {5, 8}, floats(40)};
    return tensors;
}

std::string whisper_config(const std::string& extra = {}) {
    return R"({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"],
"d_model": 8, "num_mel_bins": 4, "max_source_positions": 6, "encoder_layers": 1,
"encoder_ffn_dim": 12)" +
           extra + "}";
}

struct Case {
    const char* name;
    void (*change)(Tensors&);
    const char* expected;
};

}  // namespace

TEST_CASE("encoders: a LIMU-BERT is imported as it is stored, or as asked for") {
    const TempFolder folder;
    CHECK(outcome(random_limu(), folder) == "accepted");
    const auto image = firmware::MappedImage::open_folder(folder / "image");
    const firmware::Part& part = image.image().package().parts.at(0);
    CHECK(part.name == "imu");
    CHECK(part.architecture == "limu-bert");
    const auto& recipe = std::get<firmware::MotionRecipe>(part.recipe);
    CHECK(recipe.rate_hz == 20);
    CHECK(recipe.samples == 120);
    CHECK(recipe.channels == 6);
    CHECK(part.space.empty());
    // The head that guessed is not counted.
    CHECK(part.parameters ==
          24 * 6 + 24 + 120 * 24 + 4 * (24 * 24 + 24) + 2 * 24 * 40 + 40 + 24 + 6 * 24);
    CHECK(outcome(random_limu(), folder, M4_DTYPE_Q8) == "accepted");  // what does not divide: F16
}

TEST_CASE("encoders: a broken LIMU-BERT is refused by name") {
    constexpr Case kCases[] = {
        {"missing", [](Tensors& t) { t.erase("transformer.proj.bias"); },
         "tensor 'transformer.proj.bias': is missing; its shape would be [24]"},
        {"missing inner width", [](Tensors& t) { t.erase("transformer.pwff.fc1.weight"); },
         "tensor 'transformer.pwff.fc1.weight': is missing"},
        {"only by the beginning of its name",
         [](Tensors& t) {
             t["transformer.embed.lin.weights"] = t.at("transformer.embed.lin.weight");
             t.erase("transformer.embed.lin.weight");
         },
         "tensor 'transformer.embed.lin.weight': is missing"},
        {"misshapen",
         [](Tensors& t) {
             t["transformer.norm1.gamma"] = {"F32", {23}, floats(23)};
         },
         "tensor 'transformer.norm1.gamma': has shape [23] instead of [24]"},
        {"no rank",
         [](Tensors& t) {
             t["transformer.embed.lin.weight"] = {"F32", {}, floats(1)};
         },
         "transformer.embed.lin.weight"},
        {"channels",
         [](Tensors& t) {
             t["transformer.embed.lin.weight"] = {"F32", {24, 9}, floats(24 * 9)};
         },
         "has shape [24, 9] instead of [24, 6]"},
        {"left over",
         [](Tensors& t) {
             t["transformer.second.weight"] = {"F32", {2}, floats(2)};
         },
         "tensor 'transformer.second.weight': is no part of an encoder"},
        {"type",
         [](Tensors& t) {
             t["transformer.norm2.beta"] = {"I32", {24}, floats(24)};
         },
         "tensor 'transformer.norm2.beta': has type I32"},
    };
    for (const Case& one : kCases) {
        CAPTURE(std::string(one.name));
        const TempFolder folder;
        Tensors tensors = random_limu();
        one.change(tensors);
        const std::string text = outcome(tensors, folder);
        CAPTURE(text);
        CHECK(contains(text, one.expected));
        CHECK_FALSE(std::filesystem::exists(folder / "image"));
    }
}

TEST_CASE("encoders: a small ViT, and broken ones") {
    constexpr Case kCases[] = {
        {"whole", [](Tensors& /*t*/) {}, "accepted"},
        {"no classifier", [](Tensors& t) { t.erase("classifier.weight"); },
         "tensor 'classifier.weight': is missing"},
        {"patches of no square",
         [](Tensors& t) {
             t["patch_embed.proj.weight"] = {"F32", {8, 8}, floats(64)};
         },
         "8 elements are no square of patches"},
        {"places of no square",
         [](Tensors& t) {
             t["pos_embed"] = {"F32", {1, 5, 8}, floats(40)};
         },
         "5 elements are no square of patches"},
        {"block without its second norm", [](Tensors& t) { t.erase("encoder.0.norm2.bias"); },
         "tensor 'encoder.0.norm2.bias': is missing"},
        {"block that is not reached",
         [](Tensors& t) {
             t["encoder.2.norm2.bias"] = {"F32", {8}, floats(8)};
         },
         "tensor 'encoder.2.norm2.bias': is no part of an encoder"},
        {"narrow projection",
         [](Tensors& t) {
             t["encoder.0.attn.in_proj_weight"] = {"F32", {16, 8}, floats(128)};
         },
         "has shape [16, 8] instead of [24, 8]"},
    };
    for (const Case& one : kCases) {
        CAPTURE(std::string(one.name));
        const TempFolder folder;
        Tensors tensors = small_vit();
        one.change(tensors);
        const std::string text = outcome(tensors, folder);
        CAPTURE(text);
        CHECK(contains(text, one.expected));
    }
}

TEST_CASE("encoders: a Whisper is one image as a file and as a folder") {
    const TempFolder folder;
    const auto image_of = [&](const std::filesystem::path& from) {
        firmware::ImageBuilder builder("senses", "1", 0);
        firmware::import_model({.from = from, .stored = M4_DTYPE_F32}, builder);
        builder.write(folder / "image", true);
        return firmware::to_hex(
            firmware::MappedImage::open_folder(folder / "image").image().digest());
    };
    const std::string config = whisper_config(R"(, "encoder_attention_heads": 2)");
    write_file(folder / "config.json", config);
    write_file(folder / "model.safetensors", safetensors_bytes(small_whisper()));
    const std::string digest = image_of(folder / std::filesystem::path());
    CHECK(image_of(folder / "model.safetensors") == digest);
    const auto image = firmware::MappedImage::open_folder(folder / "image");
    const auto& recipe =
        std::get<firmware::AudioRecipe>(image.image().package().parts.at(0).recipe);
    CHECK(recipe.mel_bins == 4);
    CHECK(recipe.frames == 12);
    CHECK(recipe.clip_samples == 12 * 160);
    CHECK(recipe.padded);
    std::filesystem::rename(folder / "config.json", folder / "model.config.json");
    CHECK(image_of(folder / "model.safetensors") == digest);
}

TEST_CASE("encoders: a Whisper whose configuration does not fit is refused by name") {
    struct Config {
        const char* extra;
        const char* expected;
    };
    for (const Config& one :
         {Config{R"(, "encoder_attention_heads": 2)", "accepted"},
          Config{"", "key 'encoder_attention_heads': has to be there"},
          Config{R"(, "encoder_attention_heads": 0)", "has to be there, 1 to 2^20"},
          Config{R"(, "encoder_attention_heads": 3)", "3 heads do not divide 8"},
          Config{R"(, "encoder_attention_heads": 2, "activation_function": "relu")",
                 "'relu' is not supported; supported: gelu"}}) {
        const TempFolder folder;
        write_file(folder / "config.json", whisper_config(one.extra));
        const std::string text = outcome(small_whisper(), folder);
        CAPTURE(text);
        CHECK(contains(text, one.expected));
    }
    const TempFolder folder;
    CHECK(contains(outcome(small_whisper(), folder), "config.json"));
    write_file(folder / "config.json", whisper_config(R"(, "encoder_attention_heads": 2)"));
    Tensors tensors = small_whisper();
    tensors["model.encoder.conv2.weight"] = {"F32", {8, 8, 5}, floats(320)};
    CHECK(contains(outcome(tensors, folder), "has shape [8, 8, 5] instead of [8, 8, 3]"));
}

TEST_CASE("encoders: a file that is none, and ImageBind without its heads") {
    const TempFolder folder;
    CHECK(contains(outcome({{"some.weight", {"F32", {2}, floats(2)}}}, folder),
                   "holds no encoder that is known"));
    const std::string stem = "modality_preprocessors.imu.imu_stem.proj.weight";
    CHECK(contains(outcome({{stem, {"F32", {32, 48}, floats(32 * 48)}}}, folder),
                   "modality_preprocessors.imu.pos_embed': is missing"));
    CHECK(contains(outcome({{"modality_preprocessors.other", {"F32", {1}, floats(1)}}}, folder),
                   "model.safetensors: has no trunk of image, text, audio or IMU"));
}

}  // namespace m4::test
