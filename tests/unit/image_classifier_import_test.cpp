// SPDX-License-Identifier: MIT
// CLIP, ViT and DeiT: what their folders say beside the weights, and folders that are
// wrong.
#include <doctest/doctest.h>

#include <functional>

#include "checkpoint_writer.hpp"
#include "image_samples.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/image.hpp"
#include "small_encoders.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

/// What becomes of a folder with these tensors: "accepted", or why not.
std::string outcome(const Tensors& tensors, const TempFolder& folder,
                    const std::filesystem::path& tokenizer = {}) {
    write_file(folder / "model.safetensors", safetensors_bytes(tensors));
    return refusal([&] {
        firmware::ImageBuilder builder("senses", "1", 0);
        firmware::import_model({.from = folder / "model.safetensors", .tokenizer = tokenizer},
                               builder);
        builder.write(folder / "image", true);
    });
}

std::vector<firmware::Part> parts_of(const TempFolder& folder) {
    return firmware::MappedImage::open_folder(folder / "image").image().package().parts;
}

firmware::ImageRecipe recipe_of(const TempFolder& folder) {
    return std::get<firmware::ImageRecipe>(parts_of(folder).at(0).recipe);
}

}  // namespace

TEST_CASE("vit: pictures are prepared as the folder says, else as published") {
    const TempFolder folder;
    CHECK(outcome(small_vit(), folder) == "accepted");
    CHECK(recipe_of(folder).short_side == 6);
    CHECK(recipe_of(folder).filter == firmware::ResizeFilter::bicubic);
    CHECK(recipe_of(folder).mean == std::vector<float>{0.5F, 0.5F, 0.5F});
    CHECK(outcome(small_vit("deit."), folder) == "accepted");
    CHECK(recipe_of(folder).mean == std::vector<float>{0.485F, 0.456F, 0.406F});
    CHECK(parts_of(folder).at(0).architecture == "deit");

    struct Case {
        const char* text;
        const char* expected;
        std::uint32_t short_side = 0;
        bool stretched = false;
        bool bilinear = false;
    };
    for (const Case& one : {
             Case{R"({"size": 6, "resample": 2})", "accepted", 6, true, true},
             Case{R"({"size": {"height": 6, "width": 6}})", "accepted", 6, true, false},
             Case{R"({"size": 8, "crop_size": 6, "resample": 3})", "accepted", 8, false, false},
             Case{R"({"size": {"height": 8, "width": 8}, "do_center_crop": true,
                      "crop_size": {"height": 6, "width": 6}})",
                  "accepted", 8, true, false},
             Case{R"({"size": {"shortest_edge": 7}, "crop_size": 6})", "accepted", 7, false, false},
             Case{R"({"do_resize": false})", "accepted", 0, false, false},
             Case{R"({"size": 8})", "of another size than the weights take, 6 pixels"},
             Case{R"({"size": 8, "crop_size": 7})", "of another size"},
             Case{R"({"size": {"height": 6, "width": 7}})", "is no square"},
             Case{R"({"size": 0})", "key 'size': has to be there"},
             Case{R"({"size": 6, "resample": 1})", "key 'resample': 1 is not supported"},
             Case{R"({"image_mean": [0, 1]})", "key 'image_mean': is not 3 numbers"},
             Case{R"({"image_std": [0, 1, 1]})", "std has a number that is 0"},
             Case{R"({"rescale_factor": 1.0})", "does not divide pixels by 255"},
             Case{R"({"do_rescale": false})", "does not divide pixels by 255"},
             Case{R"([])", "is not a JSON object"},
         }) {
        CAPTURE(std::string(one.text));
        write_file(folder / "preprocessor_config.json", std::string_view(one.text));
        const std::string text = outcome(small_vit(), folder);
        CAPTURE(text);
        REQUIRE(contains(text, one.expected));
        if (text == "accepted") {
            CHECK(recipe_of(folder).short_side == one.short_side);
            CHECK(recipe_of(folder).stretched == one.stretched);
            CHECK((recipe_of(folder).filter == firmware::ResizeFilter::bilinear) == one.bilinear);
        }
    }
}

TEST_CASE("vit: configurations and tensors that do not fit are refused by name") {
    struct Case {
        const char* config;
        const char* expected;
    };
    for (const Case& one : {
             Case{R"({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}})", "accepted"},
             Case{R"({"id2label": {"0": "cat", "2": "dog"}})", "key '1': is missing"},
             Case{R"({"id2label": {"0": "cat", "1": ""}})", "label 1: is empty"},
             Case{R"({"num_attention_heads": 3})", "3 heads do not divide 8"},
             Case{R"({"hidden_act": "relu"})", "'relu' is not supported"},
             Case{R"({"layer_norm_eps": 0})", "eps"},
         }) {
        CAPTURE(std::string(one.config));
        const TempFolder folder;
        write_file(folder / "config.json", std::string_view(one.config));
        const std::string text = outcome(small_vit(), folder);
        CAPTURE(text);
        CHECK(contains(text, one.expected));
    }
    const auto spoilt = [](const std::function<void(Tensors&)>& spoil) {
        const TempFolder folder;
        Tensors tensors = small_vit();
        spoil(tensors);
        return outcome(tensors, folder);
    };
    CHECK(contains(spoilt([](Tensors& t) { t.erase("classifier.weight"); }),
                   "tensor 'classifier.weight': is missing"));
    CHECK(contains(spoilt([](Tensors& t) { t.erase("vit.encoder.layer.0.output.dense.bias"); }),
                   "'vit.encoder.layer.0.output.dense.bias': is missing"));
    CHECK(contains(spoilt([](Tensors& t) {
                       TensorWriter writer;
                       writer.add("vit.encoder.layer.1.output.dense.bias", {8});
                       t.insert(writer.tensors.begin(), writer.tensors.end());
                   }),
                   "is no part of an encoder of this architecture"));
    CHECK(contains(spoilt([](Tensors& t) {
                       t["vit.embeddings.position_embeddings"].shape = {5, 8};
                   }),
                   "'vit.embeddings.position_embeddings': is missing or not of rank 3"));
    CHECK(contains(
        spoilt([](Tensors& t) {
            TensorWriter writer;
            writer.add("vit.embeddings.patch_embeddings.projection.weight", {8, 3, 2, 4});
            t["vit.embeddings.patch_embeddings.projection.weight"] = writer.tensors.begin()->second;
        }),
        "has shape [8, 3, 2, 4] instead of [8, 3, 2, 2]"));
}

TEST_CASE("clip: openai's file, with its tokeniser beside it, given, or not at all") {
    const TempFolder folder;
    CHECK(outcome(small_clip(), folder) == "accepted");
    REQUIRE(parts_of(folder).size() == 2);
    CHECK(parts_of(folder).at(1).name == "text");
    CHECK(std::holds_alternative<std::monostate>(parts_of(folder).at(1).recipe));
    const std::string merges = "#version: 0.2\na b\n";
    std::filesystem::create_directory(folder / "other");
    write_file(folder / "other" / "merges.txt", std::string_view(merges));
    CHECK(outcome(small_clip(), folder, folder / "other" / "merges.txt") == "accepted");
    CHECK(std::get<firmware::TextRecipe>(parts_of(folder).at(1).recipe).pad_id == 0);
    CHECK(outcome(small_clip(), folder, folder / "other") == "accepted");
    CHECK(parts_of(folder).at(1).tokenizer_tensor != 0);
    CHECK(contains(outcome(small_clip(), folder, folder / "nowhere"), "nowhere"));
    write_file(folder / "merges.txt", std::string_view(merges + "c d\n"));
    CHECK(outcome(small_clip(), folder) == "accepted");
    CHECK(parts_of(folder).at(1).tokenizer_tensor != 0);

    Tensors tensors = small_clip();
    tensors["logit_scale"].data = store_values({1000.0F}, Stored::f32);
    CHECK(contains(outcome(tensors, folder), "tensor 'logit_scale': is no logarithm of a scale"));
    tensors = small_clip();
    tensors.erase("visual.class_embedding");
    CHECK(contains(outcome(tensors, folder), "'visual.class_embedding': is missing"));
    tensors = small_clip();
    tensors["visual.positional_embedding"] = {
        "F32", {4, 8}, store_values(std::vector<float>(32), Stored::f32)};
    CHECK(contains(outcome(tensors, folder), "3 places are no square of patches"));
    tensors["visual.positional_embedding"] = {"F32", {0, 8}, ""};
    CHECK(outcome(tensors, folder) != "accepted");
}

}  // namespace m4::test
