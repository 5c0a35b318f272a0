// SPDX-License-Identifier: MIT
// Projectors as parts: what makes a file one, whose rows it gives, which space it takes.
#include <doctest/doctest.h>

#include <cstring>

#include "checkpoint_writer.hpp"
#include "image_samples.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/image.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

using Tensors = std::map<std::string, SafeTensor>;

Tensors layer(const std::string& name, std::uint64_t rows, std::uint64_t columns) {
    const auto stored = [](std::uint64_t count) {
        return store_values(std::vector<float>(count, 0.25F), Stored::f32);
    };
    return {{name + "weight", {"F32", {rows, columns}, stored(rows * columns)}},
            {name + "bias", {"F32", {rows}, stored(rows)}}};
}

/// The same with metadata of its own in the header.
std::string with_metadata(const Tensors& tensors, const std::string& metadata) {
    std::string bytes = safetensors_bytes(tensors);
    std::string header = bytes.substr(8);
    const std::string old = R"({"format":"pt"})";
    const std::size_t at = header.find(old);
    REQUIRE(at != std::string::npos);
    header.replace(at, old.size(), metadata);
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    size += metadata.size() - old.size();
    return Bytes().number(size).data + header;
}

/// A backbone of 32 columns, then the projector.
class Packed {
   public:
    std::string outcome(const std::string& projector, const std::string& name = "bridge",
                        const std::string& space = "shared", bool backbone = true) {
        write_hf_folder(random_llama({}, 1), folder_ / "hf", Stored::f32);
        write_file(folder_ / "p.safetensors", std::string_view(projector));
        return refusal([&] {
            firmware::ImageBuilder builder("senses", "1", 0);
            if (backbone) {
                firmware::import_model({.from = folder_ / "hf"}, builder);
            }
            firmware::import_model(
                {.from = folder_ / "p.safetensors", .part_name = name, .space = space}, builder);
            builder.write(folder_ / "image", true);
        });
    }
    [[nodiscard]] firmware::Part part() const {
        return firmware::MappedImage::open_folder(folder_ / "image").image().package().parts.at(1);
    }

   private:
    TempFolder folder_;
};

}  // namespace

TEST_CASE("projector: a linear layer that is called so") {
    Packed packed;
    CHECK(packed.outcome(safetensors_bytes(layer("proj.", 96, 20))) == "accepted");
    CHECK(packed.part().kind == firmware::PartKind::projector);
    CHECK(packed.part().name == "bridge");
    CHECK(packed.part().space == "shared");
    CHECK(packed.part().parameters == 96 * 21);
    CHECK(packed.part().programs.at(0).name == "project");
    const std::string bare = safetensors_bytes(layer("", 32, 20));
    CHECK(packed.outcome(bare, "projector") == "accepted");
    CHECK(contains(packed.outcome(bare), "holds no encoder that is known"));
    CHECK(packed.outcome(with_metadata(layer("", 32, 20), R"({"kind": "projector"})")) ==
          "accepted");
    CHECK(contains(packed.outcome(with_metadata(layer("proj.", 32, 20), R"({"kind": "head"})")),
                   "holds no encoder that is known"));
    Tensors no_bias = layer("proj.", 32, 20);
    no_bias.erase("proj.bias");
    CHECK(packed.outcome(safetensors_bytes(no_bias)) == "accepted");
    Tensors more = layer("proj.", 32, 20);
    more["other"] = more.at("proj.bias");
    CHECK(contains(packed.outcome(safetensors_bytes(more)), "holds no encoder that is known"));
}

TEST_CASE("projector: its rows are the backbone's, its space one that is said") {
    Packed packed;
    const std::string bytes = safetensors_bytes(layer("proj.", 32, 20));
    CHECK(contains(packed.outcome(safetensors_bytes(layer("proj.", 40, 20))),
                   "has 40 rows, not whole rows of the backbone's 32 columns"));
    CHECK(contains(packed.outcome(bytes, "bridge", "shared", false),
                   "no backbone was packed before it"));
    CHECK(contains(packed.outcome(bytes, "bridge", ""), "its space is not said; there is none"));
    CHECK(packed.outcome(with_metadata(layer("proj.", 32, 20), R"({"space": "mine"})"), "bridge",
                         "") == "accepted");
    CHECK(packed.part().space == "mine");
    CHECK(packed.outcome(with_metadata(layer("proj.", 32, 20), R"({"space": "mine"})"), "bridge",
                         "other") == "accepted");
    CHECK(packed.part().space == "other");
    CHECK(contains(packed.outcome(with_metadata(layer("proj.", 32, 20), R"({"space": "\u0001"})"),
                                  "bridge", ""),
                   "space is not printable ASCII"));
}

}  // namespace m4::test
