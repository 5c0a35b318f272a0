// SPDX-License-Identifier: MIT
// Graphs of TensorFlow Lite: KWT's becomes a recipe and a program, others and broken
// ones are refused.
#include <doctest/doctest.h>

#include "image_samples.hpp"
#include "importers/import.hpp"
#include "importers/kwt_graph.hpp"
#include "kwt_writer.hpp"
#include "lib/builder.hpp"
#include "lib/image.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

std::string outcome(const TempFolder& folder, const std::string& graph) {
    write_file(folder / "kwt.tflite", std::string_view(graph));
    return refusal([&] {
        firmware::ImageBuilder builder("senses", "1", 0);
        firmware::import_model({.from = folder / "kwt.tflite"}, builder);
        builder.write(folder / "image", true);
    });
}

std::string faulty(const KwtFaults& faults) {
    const TempFolder folder;
    const KwtSizes sizes;
    return outcome(folder, kwt_tflite(sizes, random_kwt(sizes, 1), faults));
}

}  // namespace

TEST_CASE("kwt: the front end becomes a recipe, labels come from beside the file") {
    const TempFolder folder;
    const KwtSizes sizes;
    const std::string graph = kwt_tflite(sizes, random_kwt(sizes, 1));
    CHECK(outcome(folder, graph) == "accepted");
    const auto part_of = [&] {
        return firmware::MappedImage::open_folder(folder / "image").image().package().parts.at(0);
    };
    const firmware::Part part = part_of();
    CHECK(part.name == "audio");
    CHECK(part.architecture == "kwt");
    CHECK(part.labels.at(11) == "go");
    const auto& recipe = std::get<firmware::AudioRecipe>(part.recipe);
    CHECK(recipe.clip_samples == 800);
    CHECK(recipe.frame_samples == 120);
    CHECK(recipe.frame_shift == 40);
    CHECK(recipe.fft_samples == 128);
    CHECK(recipe.frames == 18);
    CHECK(recipe.mel_bins == 12);
    CHECK(recipe.coefficients == 8);
    CHECK(recipe.power == 1);
    CHECK(recipe.window == firmware::WindowKind::hann_periodic);
    CHECK(recipe.log_floor == 1e-12F);
    CHECK(recipe.frames_first);

    write_file(folder / "labels.txt", std::string_view("a\nb\nc\n"));
    CHECK(contains(outcome(folder, graph), "labels.txt: 3 labels for 12 scores"));
    write_file(folder / "kwt.labels.txt", std::string_view("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\nx\ny\n"));
    CHECK(outcome(folder, graph) == "accepted");
    CHECK(part_of().labels.at(10) == "x");
}

TEST_CASE("kwt: graphs that compute something else are refused where they differ") {
    CHECK(contains(faulty({.tanh_left_out = true}), "is not what KWT has there"));
    CHECK(contains(faulty({.fused_activation = true}), "has a fused activation"));
    CHECK(contains(faulty({.other_window = true}), "is not the window that a recipe can say"));
    CHECK(contains(faulty({.other_scale = true}), "has 1.000000 instead of 0.25"));
    CHECK(contains(faulty({.swapped_values = true}), "does not take what KWT gives it there"));
    const TempFolder folder;
    CHECK(contains(outcome(folder, "TFL3 but nothing else"), "is not a TensorFlow Lite model"));
    CHECK(contains(outcome(folder, ""), "kwt.tflite"));
}

TEST_CASE("kwt: a graph cut or altered is read or refused, never worse") {
    KwtSizes sizes;
    sizes.samples = 60;
    sizes.shift = 4;
    sizes.bins = 8;  // of sixteen samples
    sizes.mel_bins = 4;
    sizes.coefficients = 3;
    sizes.width = 4;
    sizes.inner = 6;
    sizes.blocks = 1;
    const std::string graph = kwt_tflite(sizes, random_kwt(sizes, 2));
    std::size_t accepted = 0;
    std::size_t refused = 0;
    const auto probe = [&](const std::string& text) {
        const auto bytes = std::as_bytes(std::span(text));
        std::vector<std::byte> exact(bytes.begin(), bytes.end());
        exact.shrink_to_fit();
        try {
            const auto model = firmware::read_kwt(exact, "altered");
            CHECK(model.checkpoint->tensors().size() > 10);
            ++accepted;
        } catch (const firmware::Error& error) {
            CHECK(error.place().starts_with("altered"));
            ++refused;
        }
    };
    probe(graph);
    REQUIRE(accepted == 1);
    for (std::size_t size = 0; size < graph.size(); size += 5) {
        probe(graph.substr(0, size));
    }
    CHECK(accepted == 1);
    for (std::size_t at = 0; at < graph.size(); ++at) {
        std::string bytes = graph;
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
        probe(bytes);
    }
    CHECK(refused > graph.size() / 3);
    CHECK(accepted > graph.size() / 20);
}

}  // namespace m4::test
