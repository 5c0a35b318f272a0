// SPDX-License-Identifier: MIT
// CLIP and image classifiers: random checkpoints of every published layout against
// a plain computation.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "gpu.hpp"
#include "plain_transformer.hpp"
#include "senses.hpp"

namespace m4::test {

namespace {

constexpr std::size_t kSide = 12;
constexpr std::size_t kPatch = 4;
constexpr std::size_t kPatches = 9;
constexpr double kTolerance = 1e-4;

std::vector<float> random_floats(std::size_t count, std::uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    std::generate(values.begin(), values.end(), [&] { return normal(random); });
    return values;
}

std::vector<float> joined(const PlainTensors& from, const std::vector<std::string>& names) {
    std::vector<float> all;
    for (const std::string& name : names) {
        all.insert(all.end(), from.at(name).begin(), from.at(name).end());
    }
    return all;
}

/// Names below a block; q, k and v are three linears.
struct BlockNames {
    const char* q;
    const char* k;
    const char* v;
    const char* out;
    const char* first_norm;
    const char* second_norm;
    const char* up;
    const char* down;
};
constexpr BlockNames kClip = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj",
    "layer_norm1",      "layer_norm2",      "mlp.fc1",          "mlp.fc2"};
constexpr BlockNames kVit = {"attention.attention.query", "attention.attention.key",
                             "attention.attention.value", "attention.output.dense",
                             "layernorm_before",          "layernorm_after",
                             "intermediate.dense",        "output.dense"};

void add_block(PlainTensors& tensors, const std::string& at, const BlockNames& names,
               std::uint64_t width, std::uint64_t inner) {
    for (const char* name : {names.q, names.k, names.v, names.out}) {
        tensors.add_linear(at + name, width, width);
    }
    tensors.add_norm(at + names.first_norm, width);
    tensors.add_norm(at + names.second_norm, width);
    tensors.add_linear(at + names.up, inner, width);
    tensors.add_linear(at + names.down, width, inner);
}

Rows block(const PlainTensors& tensors, Rows x, const std::string& at, const BlockNames& names,
           std::size_t heads, bool causal, double eps, double (*function)(double)) {
    const auto apply = [&](const Rows& in, const char* name) {
        return tensors.linear(in, at + name + ".weight", at + name + ".bias");
    };
    const Rows h = tensors.norm(x, at + names.first_norm, eps);
    const Rows y =
        plain_attention(apply(h, names.q), apply(h, names.k), apply(h, names.v), heads, causal);
    x = plain_sum(x, apply(y, names.out));
    const Rows up =
        plain_map(apply(tensors.norm(x, at + names.second_norm, eps), names.up), function);
    return plain_sum(x, apply(up, names.down));
}

std::vector<float> unit(const Rows& x, double scale) {
    double square = 0;
    for (const double value : x.front()) {
        square += value * value;
    }
    std::vector<float> out;
    for (const double value : x.front()) {
        out.push_back(static_cast<float>(value / std::sqrt(square) * scale));
    }
    return out;
}

// A CLIP of 24 shared dimensions: images of 128 in two heads, texts of 64 in one.
constexpr std::uint64_t kShared = 24;
constexpr std::uint64_t kVision = 128;
constexpr std::uint64_t kText = 64;
constexpr std::uint64_t kVocabulary = 60;
constexpr std::uint64_t kContext = 7;
constexpr float kLogScale = 2.6592F;

PlainTensors clip_tensors() {
    PlainTensors tensors(5);
    const std::string vision = "vision_model.";
    tensors.add(vision + "embeddings.class_embedding", {kVision});
    tensors.add(vision + "embeddings.patch_embedding.weight", {kVision, 3, kPatch, kPatch});
    tensors.add(vision + "embeddings.position_embedding.weight", {kPatches + 1, kVision});
    tensors.add_norm(vision + "pre_layrnorm", kVision);
    tensors.add_norm(vision + "post_layernorm", kVision);
    const std::string text = "text_model.";
    tensors.add(text + "embeddings.token_embedding.weight", {kVocabulary, kText});
    tensors.add(text + "embeddings.position_embedding.weight", {kContext, kText});
    tensors.add_norm(text + "final_layer_norm", kText);
    for (const char* number : {"0.", "1."}) {
        add_block(tensors, vision + "encoder.layers." + number, kClip, kVision, 96);
        add_block(tensors, text + "encoder.layers." + number, kClip, kText, 80);
    }
    tensors.add("visual_projection.weight", {kShared, kVision});
    tensors.add("text_projection.weight", {kShared, kText});
    tensors.set("logit_scale", {}, {kLogScale});
    return tensors;
}

std::vector<float> clip_image(const PlainTensors& tensors, const std::vector<float>& planes,
                              double (*function)(double)) {
    const std::string at = "vision_model.";
    Rows x = tensors.rows(at + "embeddings.class_embedding", kVision);
    for (Row& row : tensors.linear(plain_patches(planes, 3, kSide, kPatch),
                                   at + "embeddings.patch_embedding.weight", "")) {
        x.push_back(std::move(row));
    }
    x = plain_sum(x, tensors.rows(at + "embeddings.position_embedding.weight", kVision));
    x = tensors.norm(x, at + "pre_layrnorm", 1e-5);
    for (const char* number : {"0.", "1."}) {
        x = block(tensors, x, at + "encoder.layers." + number, kClip, 2, false, 1e-5, function);
    }
    x = tensors.norm({x.front()}, at + "post_layernorm", 1e-5);
    return unit(tensors.linear(x, "visual_projection.weight", ""), 1);
}

std::vector<float> clip_text(const PlainTensors& tensors, const std::vector<std::uint32_t>& tokens,
                             std::size_t picked, double (*function)(double)) {
    const std::string at = "text_model.";
    const Rows table = tensors.rows(at + "embeddings.token_embedding.weight", kText);
    Rows x;
    for (const std::uint32_t token : tokens) {
        x.push_back(table[token]);
    }
    x = plain_sum(x, tensors.rows(at + "embeddings.position_embedding.weight", kText));
    for (const char* number : {"0.", "1."}) {
        x = block(tensors, x, at + "encoder.layers." + number, kClip, 1, true, 1e-5, function);
    }
    x = tensors.norm({x[picked]}, at + "final_layer_norm", 1e-5);
    return unit(tensors.linear(x, "text_projection.weight", ""),
                std::exp(static_cast<double>(kLogScale)));
}

std::vector<float> turned(const std::vector<float>& values, std::size_t columns) {
    const std::size_t rows = values.size() / columns;
    std::vector<float> out(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        out[i % columns * rows + i / columns] = values[i];
    }
    return out;
}

/// The same model by openai's names.
PlainTensors openai_of(const PlainTensors& from) {
    PlainTensors out(0);
    const auto move = [&](const std::string& name, const std::vector<std::uint64_t>& shape,
                          const std::string& old) { out.set(name, shape, from.at(old)); };
    const auto norm = [&](const std::string& name, std::uint64_t width, const std::string& old) {
        move(name + ".weight", {width}, old + ".weight");
        move(name + ".bias", {width}, old + ".bias");
    };
    const auto blocks = [&](const std::string& at, const std::string& old, std::uint64_t width,
                            std::uint64_t inner) {
        for (const std::string number : {"0.", "1."}) {
            const std::string to = at + "resblocks." + number;
            const std::string own = old + "encoder.layers." + number;
            const std::string attention = own + "self_attn.";
            out.set(to + "attn.in_proj_weight", {3 * width, width},
                    joined(from, {attention + "q_proj.weight", attention + "k_proj.weight",
                                  attention + "v_proj.weight"}));
            out.set(to + "attn.in_proj_bias", {3 * width},
                    joined(from, {attention + "q_proj.bias", attention + "k_proj.bias",
                                  attention + "v_proj.bias"}));
            move(to + "attn.out_proj.weight", {width, width}, attention + "out_proj.weight");
            move(to + "attn.out_proj.bias", {width}, attention + "out_proj.bias");
            norm(to + "ln_1", width, own + "layer_norm1");
            norm(to + "ln_2", width, own + "layer_norm2");
            move(to + "mlp.c_fc.weight", {inner, width}, own + "mlp.fc1.weight");
            move(to + "mlp.c_fc.bias", {inner}, own + "mlp.fc1.bias");
            move(to + "mlp.c_proj.weight", {width, inner}, own + "mlp.fc2.weight");
            move(to + "mlp.c_proj.bias", {width}, own + "mlp.fc2.bias");
        }
    };
    const std::string vision = "vision_model.embeddings.";
    move("visual.class_embedding", {kVision}, vision + "class_embedding");
    move("visual.conv1.weight", {kVision, 3, kPatch, kPatch}, vision + "patch_embedding.weight");
    move("visual.positional_embedding", {kPatches + 1, kVision},
         vision + "position_embedding.weight");
    norm("visual.ln_pre", kVision, "vision_model.pre_layrnorm");
    norm("visual.ln_post", kVision, "vision_model.post_layernorm");
    blocks("visual.transformer.", "vision_model.", kVision, 96);
    out.set("visual.proj", {kVision, kShared},
            turned(from.at("visual_projection.weight"), kVision));
    move("token_embedding.weight", {kVocabulary, kText},
         "text_model.embeddings.token_embedding.weight");
    move("positional_embedding", {kContext, kText},
         "text_model.embeddings.position_embedding.weight");
    norm("ln_final", kText, "text_model.final_layer_norm");
    blocks("transformer.", "text_model.", kText, 80);
    out.set("text_projection", {kText, kShared}, turned(from.at("text_projection.weight"), kText));
    move("logit_scale", {}, "logit_scale");
    return out;
}

void check_clip(Senses& senses, const PlainTensors& tensors, double (*function)(double)) {
    CHECK(senses.count() == 2);
    engine::Encoder& image = senses.at("image");
    CHECK(image.features().rows == 3 * kSide);
    const auto planes = random_floats(2 * 3 * kSide * kSide, 7);
    std::vector<float> wanted;
    for (std::size_t i = 0; i < 2; ++i) {
        const auto first = planes.begin() + static_cast<std::ptrdiff_t>(i * planes.size() / 2);
        const auto one = clip_image(
            tensors, {first, first + static_cast<std::ptrdiff_t>(planes.size() / 2)}, function);
        wanted.insert(wanted.end(), one.begin(), one.end());
    }
    CHECK(relative(encode(image, planes, &engine::Encoded::embedding), wanted) < kTolerance);
    engine::Encoder& text = senses.at("text");
    REQUIRE(text.token_rows() == kContext);
    const std::vector<std::uint32_t> tokens = {58, 3, 59, 0, 0, 0, 0};
    const std::vector<std::uint32_t> picked = {2};
    CHECK(relative(text.run_text(tokens, picked).embedding,
                   clip_text(tensors, tokens, 2, function)) < kTolerance);
}

// A classifier of 5 labels over 64 dimensions in one head.
constexpr std::uint64_t kWidth = 64;
constexpr std::uint64_t kLabels = 5;

PlainTensors vit_tensors(const std::string& root, bool distilled) {
    PlainTensors tensors(11);
    tensors.add(root + "embeddings.cls_token", {1, 1, kWidth});
    if (distilled) {
        tensors.add(root + "embeddings.distillation_token", {1, 1, kWidth});
    }
    tensors.add(root + "embeddings.position_embeddings",
                {1, kPatches + (distilled ? 2 : 1), kWidth});
    tensors.add(root + "embeddings.patch_embeddings.projection.weight",
                {kWidth, 3, kPatch, kPatch});
    tensors.add(root + "embeddings.patch_embeddings.projection.bias", {kWidth});
    for (const char* number : {"0.", "1."}) {
        add_block(tensors, root + "encoder.layer." + number, kVit, kWidth, 96);
    }
    tensors.add_norm(root + "layernorm", kWidth);
    if (distilled) {
        tensors.add_linear("cls_classifier", kLabels, kWidth);
        tensors.add_linear("distillation_classifier", kLabels, kWidth);
    } else {
        tensors.add_linear("classifier", kLabels, kWidth);
    }
    return tensors;
}

std::vector<float> vit_scores(const PlainTensors& tensors, const std::string& root, bool distilled,
                              const std::vector<float>& planes, double eps) {
    Rows x = tensors.rows(root + "embeddings.cls_token", kWidth);
    if (distilled) {
        x.push_back(tensors.rows(root + "embeddings.distillation_token", kWidth).front());
    }
    for (Row& row : tensors.linear(plain_patches(planes, 3, kSide, kPatch),
                                   root + "embeddings.patch_embeddings.projection.weight",
                                   root + "embeddings.patch_embeddings.projection.bias")) {
        x.push_back(std::move(row));
    }
    x = plain_sum(x, tensors.rows(root + "embeddings.position_embeddings", kWidth));
    for (const char* number : {"0.", "1."}) {
        x = block(tensors, x, root + "encoder.layer." + number, kVit, 1, false, eps, plain_gelu);
    }
    x = tensors.norm(x, root + "layernorm", eps);
    if (!distilled) {
        return plain_floats(tensors.linear({x[0]}, "classifier.weight", "classifier.bias"));
    }
    const Rows sum = plain_sum(
        tensors.linear({x[0]}, "cls_classifier.weight", "cls_classifier.bias"),
        tensors.linear({x[1]}, "distillation_classifier.weight", "distillation_classifier.bias"));
    return plain_floats(plain_map(sum, [](double value) { return value / 2; }));
}

}  // namespace

TEST_CASE("clip: Hugging Face's and openai's checkpoints give the plain embeddings") {
    M4_NEEDS_DEVICE();
    const PlainTensors tensors = clip_tensors();
    const TempFolder folder;
    write_file(folder / "clip.safetensors", safetensors_bytes(tensors.checkpoint()));
    {
        Senses senses(folder / "clip.safetensors");
        check_clip(senses, tensors, plain_quick_gelu);
        const auto& parts = senses.image().package().parts;
        CHECK(parts.at(0).space == "clip");
        const auto* recipe = std::get_if<firmware::ImageRecipe>(&parts.at(0).recipe);
        REQUIRE(recipe != nullptr);
        CHECK(recipe->short_side == kSide);
        CHECK(recipe->mean.at(0) == doctest::Approx(0.48145466));
        CHECK(parts.at(1).tokenizer_tensor == 0);
    }
    write_file(folder / "openai.safetensors", safetensors_bytes(openai_of(tensors).checkpoint()));
    Senses senses(folder / "openai.safetensors");
    check_clip(senses, tensors, plain_quick_gelu);
}

TEST_CASE("clip: a folder says which GELU and how many heads") {
    M4_NEEDS_DEVICE();
    const PlainTensors tensors = clip_tensors();
    const TempFolder folder;
    write_file(folder / "model.safetensors", safetensors_bytes(tensors.checkpoint()));
    write_file(folder / "config.json",
               R"({"model_type": "clip", "architectures": ["CLIPModel"],
 "vision_config": {"hidden_act": "gelu", "num_attention_heads": 2},
 "text_config": {"hidden_act": "gelu", "num_attention_heads": 1}})");
    Senses senses(folder / std::filesystem::path());
    check_clip(senses, tensors, plain_gelu);
}

TEST_CASE("vit: Hugging Face's classifiers give the plain scores") {
    M4_NEEDS_DEVICE();
    const auto planes = random_floats(3 * kSide * kSide, 3);
    for (const bool distilled : {false, true}) {
        CAPTURE(distilled);
        const std::string root = distilled ? "deit." : "vit.";
        const PlainTensors tensors = vit_tensors(root, distilled);
        const TempFolder folder;
        write_file(folder / "model.safetensors", safetensors_bytes(tensors.checkpoint()));
        write_file(folder / "config.json",
                   std::string(distilled ? R"({"model_type": "deit", "architectures":
 ["DeiTForImageClassificationWithTeacher"])"
                                         : R"({"model_type": "vit", "architectures":
 ["ViTForImageClassification"])") +
                       R"(, "id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "4": "e"}})");
        Senses senses(folder / std::filesystem::path());
        CHECK(relative(encode(senses.at("image"), planes, &engine::Encoded::scores),
                       vit_scores(tensors, root, distilled, planes, 1e-12)) < kTolerance);
        const firmware::Part& part = senses.image().package().parts.at(0);
        CHECK(part.labels == std::vector<std::string>{"a", "b", "c", "d", "e"});
        CHECK(part.architecture == (distilled ? "deit" : "vit"));
    }
}

TEST_CASE("vit: timm's classifiers give the plain scores") {
    M4_NEEDS_DEVICE();
    const auto planes = random_floats(3 * kSide * kSide, 4);
    const PlainTensors tensors = vit_tensors("vit.", false);
    PlainTensors timm(0);
    const auto move = [&](const std::string& name, const std::vector<std::uint64_t>& shape,
                          const std::string& old) { timm.set(name, shape, tensors.at(old)); };
    const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns,
                            const std::string& old) {
        move(name + ".weight",
             columns == 0 ? std::vector<std::uint64_t>{rows}
                          : std::vector<std::uint64_t>{rows, columns},
             old + ".weight");
        move(name + ".bias", {rows}, old + ".bias");
    };
    move("cls_token", {1, 1, kWidth}, "vit.embeddings.cls_token");
    move("pos_embed", {1, kPatches + 1, kWidth}, "vit.embeddings.position_embeddings");
    move("patch_embed.proj.weight", {kWidth, 3, kPatch, kPatch},
         "vit.embeddings.patch_embeddings.projection.weight");
    move("patch_embed.proj.bias", {kWidth}, "vit.embeddings.patch_embeddings.projection.bias");
    for (const std::string number : {"0.", "1."}) {
        const std::string to = "blocks." + number;
        const std::string from = "vit.encoder.layer." + number;
        const std::string attention = from + "attention.attention.";
        timm.set(to + "attn.qkv.weight", {3 * kWidth, kWidth},
                 joined(tensors, {attention + "query.weight", attention + "key.weight",
                                  attention + "value.weight"}));
        timm.set(to + "attn.qkv.bias", {3 * kWidth},
                 joined(tensors, {attention + "query.bias", attention + "key.bias",
                                  attention + "value.bias"}));
        linear(to + "attn.proj", kWidth, kWidth, from + "attention.output.dense");
        linear(to + "norm1", kWidth, 0, from + "layernorm_before");
        linear(to + "norm2", kWidth, 0, from + "layernorm_after");
        linear(to + "mlp.fc1", 96, kWidth, from + "intermediate.dense");
        linear(to + "mlp.fc2", kWidth, 96, from + "output.dense");
    }
    linear("norm", kWidth, 0, "vit.layernorm");
    linear("head", kLabels, kWidth, "classifier");
    const TempFolder folder;
    write_file(folder / "timm.safetensors", safetensors_bytes(timm.checkpoint()));
    Senses senses(folder / "timm.safetensors");
    CHECK(relative(encode(senses.at("image"), planes, &engine::Encoded::scores),
                   vit_scores(tensors, "vit.", false, planes, 1e-6)) < kTolerance);
    CHECK(senses.image().package().parts.at(0).labels.empty());
}

}  // namespace m4::test
