// SPDX-License-Identifier: MIT
// Projectors: one row of the backbone an input, or several.
#include <doctest/doctest.h>

#include <random>

#include "gpu.hpp"
#include "plain_transformer.hpp"
#include "senses.hpp"

namespace m4::test {

TEST_CASE("projector: each input becomes its rows, one behind the other") {
    M4_NEEDS_DEVICE();
    constexpr std::size_t kShared = 24;
    const TempFolder folder;
    const LlamaCheckpoint backbone = random_llama({}, 1);
    write_hf_folder(backbone, folder / "hf", Stored::f32);
    for (const std::size_t rows : {1U, 3U}) {
        CAPTURE(rows);
        PlainTensors tensors(7);
        tensors.add_linear("llama_proj", rows * backbone.shape.dim, kShared);
        write_file(folder / "projector.safetensors", safetensors_bytes(tensors.checkpoint()));
        Senses senses(
            {{.from = folder / "hf"},
             {.from = folder / "projector.safetensors", .part_name = "bridge", .space = "shared"}});
        REQUIRE(senses.count() == 1);
        engine::Encoder& projector = senses.at("bridge");
        CHECK(projector.features().columns == kShared);
        CHECK(projector.hidden().rows == rows);
        CHECK(projector.hidden().columns == backbone.shape.dim);
        std::mt19937 random(2);
        std::normal_distribution<float> normal;
        Rows inputs(5, Row(kShared));
        for (Row& row : inputs) {
            for (double& value : row) {
                value = double{normal(random)};
            }
        }
        CHECK(relative(encode(projector, plain_floats(inputs), &engine::Encoded::hidden),
                       plain_floats(
                           tensors.linear(inputs, "llama_proj.weight", "llama_proj.bias"))) < 1e-5);
    }
}

}  // namespace m4::test
