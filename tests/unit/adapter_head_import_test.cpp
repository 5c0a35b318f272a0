// SPDX-License-Identifier: MIT
// Heads of encoders: a classifier that PEFT saved, and a linear layer by itself.
#include <doctest/doctest.h>

#include <cstring>

#include "adapter_import_samples.hpp"
#include "small_encoders.hpp"

namespace m4::firmware {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Bases;
using test::contains;
using test::PeftFolder;
using test::refusal;
using test::SafeTensor;
using test::store_values;
using test::Stored;
using test::TempFolder;

}  // namespace

TEST_CASE("adapter import: an encoder's classifier, and a head by itself") {
    const TempFolder temp;
    test::write_file(temp / "vit.safetensors", test::safetensors_bytes(test::small_vit()));
    Bases::pack(temp / "vit.safetensors", temp / "vit", M4_DTYPE_F32);

    PeftFolder peft;
    peft.tensors.clear();
    peft.config["target_modules"] = {"query"};
    peft.config["modules_to_save"] = {"classifier"};
    peft.add("vit.encoder.layer.0.attention.attention.query", 8, 8, 4);
    peft.put("classifier.weight", {3, 8});
    peft.put("classifier.bias", {3});
    const AdapterImport tuned = peft.import(temp / "vit");
    REQUIRE(tuned.draft.adapter.head.has_value());
    CHECK(tuned.match->matched == 1);
    CHECK(tuned.part == "image");
    CHECK(tuned.draft.adapter.head->part.programs[0].inputs[0].role == Role::embedding);
    CHECK(read_adapter(encode_adapter(tuned.draft.adapter)).head->tensors.size() == 2);
    peft.put("classifier.extra", {3});
    CHECK(contains(peft.refused(temp / "vit"), "is no linear layer"));

    // (x - mean) / scale, folded: w / 2, and b - w * mean / 2.
    const auto f32 = [](const std::vector<float>& values) {
        return store_values(values, Stored::f32);
    };
    std::map<std::string, SafeTensor> head;
    head["weight"] = {"F32", {2, 8}, f32(std::vector<float>(16, 3))};
    head["bias"] = {"F32", {2}, f32({1, 2})};
    head["mean"] = {"F32", {8}, f32(std::vector<float>(8, 0.5F))};
    head["scale"] = {"F32", {8}, f32(std::vector<float>(8, 2))};
    const auto write = [&](const json& metadata) {
        std::string bytes = test::safetensors_bytes(head);
        std::uint64_t size = 0;
        std::memcpy(&size, bytes.data(), sizeof(size));
        auto header = json::parse(bytes.substr(8, size));
        header["__metadata__"] = metadata;
        const std::string text = header.dump();
        test::write_file(temp / "head.safetensors",
                         test::Bytes().text(text).data + bytes.substr(8 + size));
    };
    const json good = {{"kind", "head"}, {"input", "embedding"}, {"labels", "[\"no\", \"yes\"]"}};
    const auto import = [&](const json& metadata, const fs::path& base) {
        write(metadata);
        AdapterImportOptions options;
        options.from = temp / "head.safetensors";
        options.base = base;
        return import_adapter(options);
    };
    const auto refused = [&](const json& metadata, const fs::path& base) {
        return refusal([&] { (void)import(metadata, base); });
    };
    const AdapterImport made = import(good, {});
    const AdapterHead& layer = *made.draft.adapter.head;
    CHECK(layer.part.labels == std::vector<std::string>{"no", "yes"});
    float value = 0;
    std::memcpy(&value, layer.bytes[0].data(), sizeof(value));
    CHECK(value == 1.5F);
    std::memcpy(&value, layer.bytes[1].data() + 4, sizeof(value));
    CHECK(value == 2 - 8 * 1.5F * 0.5F);
    const AdapterImport bound = import(good, temp / "vit");
    CHECK(bound.part == "image");
    CHECK(is_set(bound.draft.adapter.probed));

    json other = good;
    other["input"] = "cls";
    CHECK(contains(refused(other, {}), "give --base"));
    other["input"] = "x";
    CHECK(contains(refused(other, {}), "supported: embedding, mean of hidden, cls"));
    other = good;
    other["labels"] = "[1]";
    CHECK(contains(refused(other, {}), "is no JSON list of 2 strings"));
    other = good;
    other["kind"] = "projector";
    CHECK(contains(refused(other, {}), "is not 'head'"));
    head["mean"].shape = {4};
    head["mean"].data.resize(16);
    CHECK(contains(refused(good, {}), "'mean': has shape [4] instead of [8]"));
    head.erase("mean");
    head["scale"].data = f32({1, 1, 1, 0, 1, 1, 1, 1});
    CHECK(contains(refused(good, {}), "an element that is 0"));
    head.erase("scale");
    head["extra"] = head["bias"];
    CHECK(contains(refused(good, {}), "is no part of a head"));
}

}  // namespace m4::firmware
