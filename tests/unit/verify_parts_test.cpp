// SPDX-License-Identifier: MIT
// The verifier on what parts say beside their programs: recipes, spaces, labels, and
// parts against each other; one thing broken a case.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "image_samples.hpp"
#include "importers/program_builder.hpp"
#include "lib/image.hpp"
#include "lib/verify.hpp"
#include "verify_cases.hpp"

namespace m4::firmware {

namespace {

using test::refusal;

constexpr std::uint32_t kWidth = 8;    // of the space
constexpr std::uint32_t kHidden = 16;  // of the backbone

/// A backbone of one matrix, an encoder of images 6 x 4, and a projector of two rows.
struct Draft {
    std::vector<Tensor> tensors;
    Package package;

    Draft() {
        add_backbone();
        ProgramBuilder program("encode");
        auto x = program.mean_rows(program.features(6, 4));
        x = program.linear(x, matrix(kWidth, 4), ProgramBuilder::none(), kWidth);
        program.output(Role::embedding, x);
        program.output(Role::scores,
                       program.linear(x, matrix(3, kWidth), ProgramBuilder::none(), 3));
        Part& eye = add(PartKind::encoder, "eye", program.finish());
        eye.space = "shared";
        eye.labels = {"cat", "dog", "w\xc3\xb6lfe"};
        eye.recipe = ImageRecipe{1, 0, 6, 4, {0.5F}, {0.25F}};
        ProgramBuilder project("project");
        auto rows = project.features(1, kWidth);
        rows = project.linear(rows, matrix(kHidden, kWidth), ProgramBuilder::none(), kHidden);
        project.output(Role::hidden, rows);
        add(PartKind::projector, "look", project.finish()).space = "shared";
    }

    void add_backbone() {
        ProgramBuilder program("forward");
        const auto ids = program.input(Role::token_ids, Symbol::tokens);
        (void)program.input(Role::positions, Symbol::tokens);
        const auto outputs = program.input(Role::output_rows, Symbol::outputs);
        const auto table = matrix(32, kHidden);
        auto x = program.gather_rows(table, ids, kHidden);
        program.embedded_rows(x);
        x = program.gather_rows(x, outputs, kHidden);
        program.output(Role::logits, program.linear(x, table, ProgramBuilder::none(), 32));
        Part& part = add(PartKind::backbone, "backbone", program.finish());
        part.context_length = 64;
        part.vocabulary = 32;
        Tensor section;
        section.name = "tokenizer";
        section.dtype = M4_DTYPE_U8;
        section.rank = 1;
        tensors.push_back(section);
        part.tokenizer_tensor = static_cast<std::uint32_t>(tensors.size() - 1);
    }

    Part& add(PartKind kind, const char* name, Program program) {
        Part part;
        part.name = name;
        part.kind = kind;
        part.architecture = "draft";
        part.programs.push_back(std::move(program));
        package.parts.push_back(std::move(part));
        return package.parts.back();
    }

    Operand matrix(std::uint64_t rows, std::uint64_t columns) {
        Tensor added;
        added.name = "some";
        added.dtype = M4_DTYPE_F32;
        added.layout = M4_LAYOUT_ROWS16;
        added.rank = 2;
        added.shape = {rows, columns, 1, 1};
        tensors.push_back(added);
        return ProgramBuilder::tensor(static_cast<std::uint32_t>(tensors.size() - 1));
    }

    Part& backbone() { return package.parts[0]; }
    Part& eye() { return package.parts[1]; }
    Part& look() { return package.parts[2]; }
    ImageRecipe& image() { return std::get<ImageRecipe>(eye().recipe); }
};

using Case = test::VerifyCase<Draft>;

/// 16 kHz, 2 frames of 3 bins: as an encoder of 6 x 4 does not take it.
AudioRecipe sound() {
    AudioRecipe recipe;
    recipe.sample_rate = 16'000;
    recipe.clip_samples = 16'000;
    recipe.frame_samples = 400;
    recipe.frame_shift = 160;
    recipe.fft_samples = 512;
    recipe.mel_bins = 6;
    recipe.high_hz = 8000;
    recipe.log_floor = 1e-10F;
    recipe.frames = 4;
    return recipe;
}

}  // namespace

TEST_CASE("parts: recipes, labels, spaces and projectors survive the way to bytes and back") {
    Draft draft;
    CHECK(refusal([&] { verify_package(draft.package, draft.tensors); }) == "accepted");
    const Package again = verify_package(encode_package(draft.package), draft.tensors);
    REQUIRE(again.parts.size() == 3);
    CHECK(again.parts[1].labels == draft.eye().labels);
    CHECK(again.parts[1].space == "shared");
    const auto& image = std::get<ImageRecipe>(again.parts[1].recipe);
    CHECK(image.height == 6);
    CHECK(image.mean == std::vector<float>{0.5F});
    CHECK(image.std == std::vector<float>{0.25F});
    CHECK(again.parts[2].kind == PartKind::projector);
    CHECK(again.parts[0].programs[0].inputs.back().role == Role::embedded_rows);

    draft.eye().recipe = sound();
    const Package heard = verify_package(encode_package(draft.package), draft.tensors);
    const auto& recipe = std::get<AudioRecipe>(heard.parts[1].recipe);
    CHECK(recipe.fft_samples == 512);
    CHECK(recipe.high_hz == 8000);
    CHECK(recipe.log == LogKind::natural);
    draft.eye().recipe = MotionRecipe{6, 4, 50, true, {1, 1, 1, 2, 2, 2}};
    const Package moved = verify_package(encode_package(draft.package), draft.tensors);
    CHECK(std::get<MotionRecipe>(moved.parts[1].recipe).scale.at(3) == 2);
}

TEST_CASE("parts: recipes that cannot be followed are refused by name") {
    static constexpr Case kCases[] = {
        {"channels", [](Draft& d) { d.image().channels = 2; }, "recipe: channels 2 is not 1 or 3"},
        {"height", [](Draft& d) { d.image().height = 0; }, "recipe: height 0 is not"},
        {"width", [](Draft& d) { d.image().width = 5; },
         "recipe: makes features of 6 x 5, but the part takes 6 x 4"},
        {"short side", [](Draft& d) { d.image().short_side = 5; }, "short_side 5 is less than"},
        {"no mean", [](Draft& d) { d.image().mean.clear(); }, "0 numbers of mean for 1 channels"},
        {"std of 0", [](Draft& d) { d.image().std[0] = 0; }, "std has a number that is 0"},
        {"std of nan", [](Draft& d) { d.image().std[0] = std::numeric_limits<float>::quiet_NaN(); },
         "not finite"},
        {"too many means", [](Draft& d) { d.image().mean.assign(65, 0); }, "65 numbers"},
        {"frame",
         [](Draft& d) {
             AudioRecipe recipe = sound();
             recipe.fft_samples = 256;
             d.eye().recipe = recipe;
         },
         "fft_samples 256 is not 400 to"},
        {"odd transform",
         [](Draft& d) {
             AudioRecipe recipe = sound();
             recipe.fft_samples = 513;
             d.eye().recipe = recipe;
         },
         "odd"},
        {"a clip that is no frame",
         [](Draft& d) {
             AudioRecipe recipe = sound();
             recipe.clip_samples = 399;
             d.eye().recipe = recipe;
         },
         "clip_samples 399 is no frame"},
        {"over nyquist",
         [](Draft& d) {
             AudioRecipe recipe = sound();
             recipe.high_hz = 8001;
             d.eye().recipe = recipe;
         },
         "half the sample_rate"},
        {"logarithm of 0",
         [](Draft& d) {
             AudioRecipe recipe = sound();
             recipe.log_floor = 0;
             d.eye().recipe = recipe;
         },
         "log_floor"},
        {"unknown window",
         [](Draft& d) {
             AudioRecipe recipe = sound();
             recipe.window = static_cast<WindowKind>(9);
             d.eye().recipe = recipe;
         },
         "window 9 is not 1 to 2"},
        {"no rate",
         [](Draft& d) {
             d.eye().recipe = MotionRecipe{6, 4, 0, true, {}};
         },
         "rate_hz"},
        {"scales",
         [](Draft& d) {
             d.eye().recipe = MotionRecipe{6, 4, 50, true, {1}};
         },
         "1 numbers of scale for 6 channels"},
        {"text without tokens", [](Draft& d) { d.eye().recipe = TextRecipe{}; },
         "is of text, but the part has no tokens"},
        {"of a projector", [](Draft& d) { d.look().recipe = ImageRecipe{1, 0, 6, 4, {0}, {1}}; },
         "part look: has a recipe or labels and is no encoder"},
    };
    test::check_cases(kCases);
}

TEST_CASE("parts: labels, spaces, and parts that do not fit each other are refused by name") {
    static constexpr Case kCases[] = {
        {"a label too few", [](Draft& d) { d.eye().labels.pop_back(); }, "2 labels for 3 scores"},
        {"an empty label", [](Draft& d) { d.eye().labels[1].clear(); }, "label 1: is empty"},
        {"a label with a line", [](Draft& d) { d.eye().labels[1] = "a\nb"; }, "label 1"},
        {"a long label", [](Draft& d) { d.eye().labels[1].assign(300, 'a'); }, "label 1"},
        {"labels of no scores", [](Draft& d) { d.eye().programs[0].outputs.pop_back(); },
         "3 labels for 0 scores"},
        {"space of the backbone", [](Draft& d) { d.backbone().space = "x"; },
         "part backbone: a backbone has a space"},
        {"no space", [](Draft& d) { d.look().space.clear(); },
         "part look: a projector of no space"},
        {"space of bells", [](Draft& d) { d.eye().space = "a\a"; }, "space is not printable"},
        {"another width",
         [](Draft& d) {
             ProgramBuilder program("encode");
             program.output(Role::embedding, program.mean_rows(program.features(2, 5)));
             d.add(PartKind::encoder, "nose", program.finish()).space = "shared";
         },
         "part nose: 5 columns in space 'shared', where others have 8"},
        {"a projector alone", [](Draft& d) { d.package.parts.erase(d.package.parts.begin()); },
         "part look: a projector, but no backbone with embedded_rows"},
        {"a backbone that takes no rows",
         [](Draft& d) { d.backbone().programs[0].inputs.pop_back(); },
         "part look: a projector, but no backbone with embedded_rows"},
        {"rows of another width",
         [](Draft& d) {
             ProgramBuilder project("project");
             project.output(Role::hidden, project.features(1, kWidth));
             d.look().programs[0] = project.finish();
         },
         "part look: rows of 8 columns for a backbone of 16"},
        {"a projector of two rows",
         [](Draft& d) {
             ProgramBuilder program("project");
             const auto rows = program.features(2, kWidth);
             program.output(Role::hidden, program.linear(rows, d.matrix(kHidden, kWidth),
                                                         ProgramBuilder::none(), kHidden));
             d.look().programs[0] = program.finish();
         },
         "part look: a projector of 2 rows an item; an embedding is one"},
        {"a projector that encodes", [](Draft& d) { d.look().programs[0].name = "encode"; },
         "part look: no program 'project'"},
        {"a head",
         [](Draft& d) {
             ProgramBuilder program("score");
             program.output(Role::scores, program.item_rows(Role::embedding, 1, 8));
             d.add(PartKind::head, "mouth", program.finish());
         },
         "part mouth: a head is part of an adapter, and of no image"},
        {"a kind there is not", [](Draft& d) { d.eye().kind = static_cast<PartKind>(9); },
         "unknown kind 9"},
    };
    test::check_cases(kCases);
}

}  // namespace m4::firmware
