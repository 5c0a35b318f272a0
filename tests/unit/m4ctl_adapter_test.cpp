// SPDX-License-Identifier: MIT
// m4ctl adapter: files in, files out, no service anywhere.
#include <doctest/doctest.h>
#include <importers/import.hpp>
#include <lib/builder.hpp>

#include <nlohmann/json.hpp>

#include "adapters/adapter.hpp"
#include "checkpoint_writer.hpp"
#include "run_tool.hpp"

using namespace m4::test;
namespace fs = std::filesystem;
namespace firmware = m4::firmware;
using nlohmann::json;

namespace {

/// A base, its image, and a PEFT folder of one module that fits.
struct Sources {
    TempFolder temp;
    std::string hf = (temp / "hf").string();
    std::string image = (temp / "image").string();
    std::string peft = (temp / "tuned").string();

    Sources() {
        write_hf_folder(random_llama({}, 3), hf, Stored::f32);
        firmware::ImageBuilder builder("base", "1", 0, M4_IMAGE_CHUNK_BYTES);
        firmware::ImportOptions options;
        options.from = hf;
        import_model(options, builder);
        builder.write(image, false);
        fs::create_directory(peft);
        const std::string module = "base_model.model.model.layers.1.mlp.up_proj.lora_";
        write_tensors(module, 44);
        write_file(
            fs::path(peft) / "adapter_config.json",
            json{
                {"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"target_modules", {"up_proj"}}}
                .dump());
    }
    void write_tensors(const std::string& module, std::uint64_t rows) const {
        const auto tensor = [](std::uint64_t a, std::uint64_t b) {
            return SafeTensor{
                "F32", {a, b}, store_values(std::vector<float>(a * b, 0.25F), Stored::f32)};
        };
        write_file(fs::path(peft) / "adapter_model.safetensors",
                   safetensors_bytes({{module + "A.weight", tensor(2, 32)},
                                      {module + "B.weight", tensor(rows, 2)}}));
    }
    void write_file(const fs::path& path, std::string_view text) const {
        m4::test::write_file(path, text);
    }
};

Ran ctl(const std::string& arguments) {
    return run_tool("m4ctl", "adapter " + arguments);
}

json ctl_json(const std::string& arguments) {
    const Ran ran = ctl(arguments + " --json");
    CAPTURE(ran.err);
    REQUIRE(ran.status == 0);
    return json::parse(ran.out);
}

}  // namespace

TEST_CASE("m4ctl adapter: import and inspect, bound and unbound, as text and as JSON") {
    const Sources s;
    const std::string file = (s.temp / "x.m4ad").string();
    const std::string out = " --out " + file;
    const json unbound = ctl_json("import " + s.peft + out);
    CHECK(unbound.at("base").is_null());
    CHECK(unbound.at("path") == file);
    CHECK(unbound.at("name") == "tuned");
    const Ran text = ctl("import " + s.peft + out + " --force");
    CHECK(text.status == 0);
    CHECK(contains(text.out, "unbound: import it with --base"));

    const json bound = ctl_json("import " + s.peft + out + " --force --base " + s.image +
                                " --name other --task words --store f16"
                                " --prompt-template '<{prompt}>'");
    CHECK(bound.at("name") == "other");
    CHECK(bound.at("task") == "words");
    CHECK(bound.at("prompt_template") == "<{prompt}>");
    CHECK(bound.at("base").get<std::string>().size() == 64);
    CHECK(bound.at("probed").get<std::string>().size() == 64);
    CHECK(bound.at("match").at("complete") == true);
    CHECK(bound.at("match").at("base_bytes") > 10'000);

    const json seen = ctl_json("inspect " + file);
    CHECK(seen.at("digest") == bound.at("digest"));
    CHECK(seen.at("file_bytes") == fs::file_size(file));
    const json& pair = seen.at("pairs").at(0);
    CHECK(pair.at("tensor") == "model.layers.1.mlp.up_proj.weight");
    CHECK(pair.at("dtype") == "f16");
    CHECK(pair.at("rank") == 2);
    CHECK(pair.at("scale") == 2.0);
    CHECK(pair.at("row_order") == "half-split");
    CHECK(pair.at("effect") > 0);
    CHECK(!pair.contains("fault"));
    CHECK(seen.at("head").is_null());
    const Ran table = ctl("inspect " + file + " --base " + s.hf);
    CHECK(table.status == 0);
    CHECK(contains(table.out, "1 of 1 pairs match part backbone"));
    CHECK(contains(table.out, "model.layers.1.mlp.up_proj  44x32"));
    CHECK(contains(table.out, "% of its base"));
}

TEST_CASE("m4ctl adapter: what is refused leaves no file, and no half of one") {
    const Sources s;
    const fs::path file = s.temp / "x.m4ad";
    const std::string out = " --out " + file.string();
    const auto refused = [&](const std::string& arguments, int status, const std::string& part) {
        check_failure_of("m4ctl", ctl(arguments), status, part);
    };
    refused("import " + s.peft, 2, "--out");
    refused("import " + s.peft + out + " --store q4", 2, "--store");
    refused("import " + s.hf + out, 1, "adapter_config.json");
    refused("import " + s.peft + out + " --name ../x", 1, "its name is not");
    refused("import " + s.peft + out + " --prompt-template x", 1, "{prompt}");
    refused("import " + s.peft + out + " --base " + s.temp.path().string() + "/nothing", 1,
            "does not exist");
    refused("import " + s.peft + out + " --base " + s.hf + " --part eye", 1,
            "has no part 'eye'; it has backbone");
    s.write_tensors("base_model.model.model.layers.1.mlp.up_proj.lora_", 45);
    refused("import " + s.peft + out + " --base " + s.image, 1,
            "pair 'model.layers.1.mlp.up_proj.weight': the pair is for shape [45, 32]");
    CHECK(!fs::exists(file));

    // Unbound it is written, but not over another, and does not match.
    REQUIRE(ctl("import " + s.peft + out).status == 0);
    const auto bytes = read_file(file);
    refused("import " + s.peft + out, 1, "exists already");
    CHECK(read_file(file) == bytes);
    const Ran ran = ctl("inspect " + file.string() + " --base " + s.image + " --json");
    CHECK(ran.status == 1);
    CHECK(contains(json::parse(ran.out).at("pairs").at(0).at("fault"), "shape [45, 32]"));
    CHECK(contains(ran.err, "no part has any of its 1 tensors"));

    auto cut = bytes;
    cut.pop_back();
    write_file(file, cut);
    refused("inspect " + file.string(), 1, "adapter: header: says");
    refused("inspect " + s.temp.path().string() + "/nothing", 1, "nothing");
    for (const auto& entry : fs::directory_iterator(s.temp.path())) {
        CHECK(!contains(entry.path().string(), "partial"));
    }
}
