// SPDX-License-Identifier: MIT
// Profiled steps: every operator shows up, with a time where the device has one,
// and what is computed is what steps compute.
#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "engine/engine.hpp"
#include "gpu.hpp"
#include "temp_folder.hpp"
#include "tiny_model.hpp"

namespace m4::test {

namespace {

using engine::Chunk;
using engine::Engine;
using engine::Logits;
using engine::Options;
using engine::Profile;
using Tokens = std::vector<std::uint32_t>;

Options profile_options() {
    Options options;
    options.device = test_device();
    options.kv_pool_bytes = 1U << 20;
    options.max_step_rows = 32;
    options.validation = true;
    return options;
}

/// Every operator that a kernel of the profile does.
std::set<std::string> operators_of(const Profile& profile) {
    std::set<std::string> names;
    for (const engine::KernelTime& kernel : profile.kernels) {
        std::istringstream words(kernel.operators);
        for (std::string word; words >> word;) {
            if (word.find_first_not_of("0123456789") != std::string::npos) {
                names.insert(word.substr(0, word.find(',')));
            }
        }
    }
    return names;
}

/// By kernel: how often it is dispatched.
std::map<std::string, std::uint32_t> dispatches_of(const Profile& profile) {
    std::map<std::string, std::uint32_t> counts;
    for (const engine::KernelTime& kernel : profile.kernels) {
        counts[kernel.name] += kernel.dispatches;
    }
    return counts;
}

/// Greedy continuation; with `profiled`, every second token comes of a profile.
Tokens continuation(Engine& engine, const Tokens& prompt, std::size_t count, bool profiled) {
    const auto sequence = engine.create_sequence(engine.context_length());
    Tokens tokens = prompt;
    while (tokens.size() < prompt.size() + count) {
        const Chunk chunk{sequence.get(), std::span(tokens).subspan(sequence->length()),
                          Logits::greedy};
        if (profiled && tokens.size() % 2 == 0) {
            (void)engine.profile({&chunk, 1});
        } else {
            engine.step({&chunk, 1});
        }
        REQUIRE(engine.ids().size() == 1);
        tokens.push_back(engine.ids()[0]);
    }
    return tokens;
}

}  // namespace

TEST_CASE("a profile names every operator of the program, with its time") {
    M4_NEEDS_DEVICE();
    const TinyModel model = make_tiny_model({.layers = 3, .stored = M4_DTYPE_F16}, 5);
    const TempFolder folder;
    write_tiny_model(model, folder / "image");
    const auto mapped = firmware::MappedImage::open_folder(folder / "image");
    std::map<std::string, std::uint32_t> expected{{"argmax", 1}};
    std::set<std::string> names{"argmax"};
    const firmware::Program& program = mapped.image().package().parts[0].programs[0];
    for (const firmware::Op& op : program.ops) {
        const std::string name(firmware::find_op(static_cast<std::uint16_t>(op.code))->name);
        ++expected[name];
        names.insert(name);
    }
    for (const bool fuse : {false, true}) {
        for (const bool timestamps : {false, true}) {
            CAPTURE(fuse);
            CAPTURE(timestamps);
            Options options = profile_options();
            options.fuse = fuse;
            options.timestamps = timestamps;
            Engine engine(mapped, options);
            const auto sequence = engine.create_sequence(64);
            const Tokens tokens{1, 2, 3};
            const Chunk chunk{sequence.get(), tokens, Logits::greedy};
            const Profile profile = engine.profile({&chunk, 1});
            CHECK(sequence->length() == tokens.size());
            CHECK(operators_of(profile) == names);
            // Without groups every operator is a kernel, and each of these one dispatch.
            CHECK((dispatches_of(profile) == expected) == !fuse);
            double sum = 0;
            for (const engine::KernelTime& kernel : profile.kernels) {
                CAPTURE(kernel.name);
                CHECK(kernel.dispatches > 0);
                CHECK(kernel.us >= 0);
                sum += kernel.us;
            }
            CHECK(profile.timed == (sum > 0));
            CHECK((timestamps || !profile.timed));
        }
    }
}

TEST_CASE("a profiled step computes what a step does, and steps behind it are as ever") {
    M4_NEEDS_DEVICE();
    const TinyModel model = make_tiny_model({.stored = M4_DTYPE_F16}, 3);
    const TempFolder folder;
    write_tiny_model(model, folder / "image");
    const auto mapped = firmware::MappedImage::open_folder(folder / "image");
    Engine engine(mapped, profile_options());
    const Tokens prompt{1, 5, 9, 200, 7};
    const Tokens plain = continuation(engine, prompt, 40, false);
    CHECK(continuation(engine, prompt, 40, true) == plain);
    CHECK(continuation(engine, prompt, 40, false) == plain);
}

TEST_CASE("a copy moves bytes in some time, and weights of a step are counted") {
    M4_NEEDS_DEVICE();
    for (const bool tied : {false, true}) {
        const TinyModel model = make_tiny_model({.tied = tied}, 3);
        const TempFolder folder;
        write_tiny_model(model, folder / "image");
        const auto mapped = firmware::MappedImage::open_folder(folder / "image");
        for (const bool timestamps : {false, true}) {
            Options options = profile_options();
            options.timestamps = timestamps;
            Engine engine(mapped, options);
            const engine::CopyTime copied = engine.time_copy();
            CHECK(copied.bytes >= 64U << 20);
            CHECK(copied.us > 0);
            // All but the embedding, which is read by rows, and the rope's table.
            std::uint64_t expected = 0;
            for (const firmware::Tensor& tensor : mapped.image().tensors()) {
                const bool table = tensor.name.find("rope") != std::string_view::npos ||
                                   tensor.name.find("tokenizer") != std::string_view::npos ||
                                   (!tied && tensor.name.find("embed") != std::string_view::npos);
                expected += table ? 0 : tensor.size_bytes;
            }
            CHECK(engine.step_weight_bytes() == expected);
        }
    }
}

}  // namespace m4::test
