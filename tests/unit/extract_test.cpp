// SPDX-License-Identifier: MIT
// An image's model as a GGUF file: nothing is lost on the way there and back,
// and what the file could not say is refused.
#include <doctest/doctest.h>
#include <exporters/gguf_writer.hpp>
#include <exporters/llama_export.hpp>
#include <exporters/rope_recovery.hpp>
#include <importers/gguf.hpp>
#include <importers/import.hpp>
#include <importers/program_builder.hpp>
#include <importers/rope_table.hpp>
#include <lib/builder.hpp>
#include <lib/image.hpp>
#include <lib/staged_file.hpp>

#include <cmath>
#include <set>

#include "checkpoint_writer.hpp"
#include "run_tool.hpp"
#include "tiny_model.hpp"

using namespace m4::firmware;
using namespace m4::test;

namespace {

/// Pack `gguf`, extract it again, pack that: names of the three results.
struct RoundTrip {
    std::filesystem::path first, gguf, second;
};

RoundTrip round_trip(const TempFolder& temp, const std::filesystem::path& from,
                     const std::string& quantize) {
    const RoundTrip paths{temp / "first", temp / "back.gguf", temp / "second"};
    for (const auto& arguments :
         {"pack --quantize " + quantize + " --from " + from.string() + " --out " +
              paths.first.string(),
          "extract " + paths.first.string() + " --gguf " + paths.gguf.string(),
          "pack --quantize " + quantize + " --from " + paths.gguf.string() + " --out " +
              paths.second.string()}) {
        const Ran ran = run_tool("m4fw", arguments);
        CAPTURE(arguments);
        CAPTURE(ran.err);
        REQUIRE(ran.status == 0);
    }
    return paths;
}

Digest digest_of(const std::filesystem::path& image) {
    return MappedImage::open_folder(image).image().digest();
}

void check_same_tensors(const GgufFile& a, const GgufFile& b) {
    CHECK(a.checkpoint()->tensors().size() == b.checkpoint()->tensors().size());
    for (const SourceTensor& tensor : a.checkpoint()->tensors()) {
        CAPTURE(tensor.name);
        const SourceTensor* other = b.checkpoint()->find(tensor.name);
        REQUIRE(other != nullptr);
        CHECK(tensor.type == other->type);
        CHECK(tensor.shape == other->shape);
        CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), other->bytes.begin(),
                         other->bytes.end()));
    }
}

bool begins_with(const GgufValue& whole, const GgufValue& part) {
    return whole.type == part.type && whole.element == part.element &&
           whole.bytes.size() >= part.bytes.size() &&
           std::equal(part.bytes.begin(), part.bytes.end(), whole.bytes.begin());
}

/// Every key of `a` in `b`, as it is in the file. Arrays may be longer: there
/// are as many pieces as the matrices have rows.
void check_same_keys(const GgufFile& a, const GgufFile& b) {
    for (const auto& [key, value] : a.metadata()) {
        CAPTURE(key);
        const auto found = b.metadata().find(key);
        REQUIRE(found != b.metadata().end());
        CHECK(begins_with(found->second, value));
        CHECK((value.type == GgufType::array || found->second.bytes.size() == value.bytes.size()));
    }
}

/// What is off in a model that is a LLaMA otherwise.
struct Oddity {
    double scale = 0.25;
    double last_eps = 1e-5;
    bool ffn_reads_x = false;  ///< not the norm of x
    bool parallel = false;     ///< attention and feed-forward side by side
    bool second_rotation = false;
    bool shared_cache = false;
    bool extra = false;
    bool output_bias = false;
    std::uint32_t second_ffn = 64;
};

/// Two layers, 32 wide, 2 heads of 16, after `odd`.
std::string refusal_of(const Oddity& odd) {
    constexpr std::uint32_t kDim = 32;
    constexpr std::uint32_t kHeads = 2;
    constexpr std::uint32_t kHead = 16;
    constexpr std::uint32_t kWords = 300;
    ImageBuilder image("odd", "1", 0);
    ProgramBuilder program("forward");
    std::uint32_t names = 0;
    const auto fill = [](std::uint64_t, std::uint64_t, std::span<float> out) {
        std::fill(out.begin(), out.end(), 0.5F);
    };
    const auto add = [&](std::vector<std::uint64_t> shape) {
        TensorSpec spec;
        spec.name = "t" + std::to_string(names++);
        spec.layout = shape.size() == 2 ? M4_LAYOUT_ROWS16 : M4_LAYOUT_PLAIN;
        spec.shape = std::move(shape);
        return ProgramBuilder::tensor(image.add_tensor(std::move(spec), fill));
    };
    const auto add_table = [&] {
        auto table = rope_table(rope_frequencies({}, kHead), 128);
        TensorSpec spec;
        spec.name = "t" + std::to_string(names++);
        spec.shape = table.shape;
        return ProgramBuilder::tensor(image.add_tensor(std::move(spec), std::move(table.rows)));
    };
    const auto ids = program.input(Role::token_ids, Symbol::tokens);
    const auto positions = program.input(Role::positions, Symbol::tokens);
    const auto rows = program.input(Role::output_rows, Symbol::outputs);
    const auto linear = [&](Operand in, std::uint32_t wide, std::uint32_t deep) {
        return program.linear(in, add({wide, deep}), {}, wide);
    };
    const auto norm = [&](Operand in) { return program.rms_norm(in, add({kDim}), 1e-5); };
    const auto first_table = add_table();
    const auto embedding = add({kWords, kDim});
    auto x = program.gather_rows(embedding, ids, kDim);
    Operand first_cache;
    for (int layer = 0; layer < 2; ++layer) {
        const bool second = layer == 1;
        const auto table = second && odd.second_rotation ? add_table() : first_table;
        const auto turn = [&](Operand in) {
            return program.rope(in, positions, table, kHeads, kHead, kRopeFineRows);
        };
        const auto written = program.state(kHeads, kHead);
        const auto cache = second && odd.shared_cache ? first_cache : written;
        first_cache = second ? first_cache : written;
        const auto h = norm(x);
        const auto q = turn(linear(h, kDim, kDim));
        const auto k = turn(linear(h, kDim, kDim));
        program.kv_write(written, k, linear(h, kDim, kDim), positions);
        const auto mixed = program.attention(q, cache, positions, kHeads, odd.scale);
        const auto middle = program.add(linear(mixed, kDim, kDim), x);  // either way round
        const auto before = odd.parallel ? x : middle;
        const auto f = odd.ffn_reads_x ? before : norm(before);
        const std::uint32_t wide = second ? odd.second_ffn : 64;
        const auto gate = program.activation(linear(f, wide, kDim), Activation::silu);
        const auto up = linear(f, wide, kDim);
        x = program.add(middle, linear(program.mul(up, gate), kDim, wide));
    }
    if (odd.extra) {
        x = program.add(x, x);
    }
    x = program.gather_rows(x, rows, kDim);
    x = program.rms_norm(x, add({kDim}), odd.last_eps);
    const auto bias = odd.output_bias ? add({kWords}) : Operand{};
    program.output(Role::logits, program.linear(x, embedding, bias, kWords));

    TokenizerSource words = tiny_tokenizer();
    Part part;
    part.name = "backbone";
    part.kind = PartKind::backbone;
    part.architecture = "odd";
    part.context_length = 128;
    part.vocabulary = kWords;
    part.tokenizer_tensor = image.add_section(
        "tokenizer", 0, build_tokenizer_section(std::move(words), kWords, "tokens"));
    part.programs.push_back(program.finish());
    image.set_package({{std::move(part)}});
    const TempFolder temp;
    image.write(temp / "image", false);
    const auto mapped = MappedImage::open_folder(temp / "image");
    m4::firmware::GgufWriter gguf;
    return refusal([&] { export_llama(mapped, "image", gguf); });
}

/// The table of these settings, read back.
RopeSettings recovered(const RopeSettings& settings, std::uint32_t dimensions,
                       std::uint64_t context, std::uint32_t fine_rows = kRopeFineRows) {
    const auto table = rope_table(rope_frequencies(settings, dimensions), context, fine_rows);
    std::vector<float> values(table.shape[0] * table.shape[1]);
    table.rows(0, table.shape[0], values);
    return recover_rope(values, dimensions, fine_rows, "table");
}

}  // namespace

TEST_CASE("extract: what was packed comes out byte for byte, and packs to the same image") {
    for (const auto& [stored, quantize] :
         {std::pair{Stored::f32, "f32"}, std::pair{Stored::f16, "auto"},
          std::pair{Stored::q8_0, "auto"}, std::pair{Stored::q4_0, "auto"}}) {
        for (const bool plain : {true, false}) {
            LlamaShape shape;
            shape.dim = 64;
            shape.ffn = 96;
            shape.tied = plain;
            shape.biases = !plain;
            shape.head_dim = plain ? 16 : 24;  // heads * head_dim is not always dim
            const auto model = random_llama(shape, 5);
            const TempFolder temp;
            m4::test::write_file(temp / "model.gguf", llama_gguf(model, stored).bytes());
            const auto paths = round_trip(temp, temp / "model.gguf", quantize);
            CHECK(digest_of(paths.first) == digest_of(paths.second));
            const GgufFile original(temp / "model.gguf");
            const GgufFile back(paths.gguf);
            if (plain || (stored != Stored::q8_0 && stored != Stored::q4_0)) {
                check_same_tensors(original, back);  // columns that are no blocks: F16
            }
            check_same_keys(original, back);
        }
    }
}

TEST_CASE("extract: the default image packs to the same weights again") {
    const std::filesystem::path nano = std::filesystem::path(source_root()) / "firmware/nano/image";
    if (!std::filesystem::exists(nano / "manifest.m4m")) {
        M4_SKIP("firmware/nano/image is not in this tree");
    }
    const auto image = MappedImage::open_folder(nano);
    const TempFolder temp;
    const auto gguf = (temp / "nano.gguf").string();
    REQUIRE(run_tool("m4fw", "extract --gguf " + gguf + " " + nano.string()).status == 0);
    REQUIRE(run_tool("m4fw", "pack --from " + gguf + " --out " + (temp / "again").string() +
                                 " --version " + std::string(image.image().version()))
                .status == 0);
    // Its program may be an older packer's; every byte of the payload is the same.
    const auto again = MappedImage::open_folder(temp / "again");
    CHECK(std::equal(again.payload().begin(), again.payload().end(), image.payload().begin(),
                     image.payload().end()));
    CHECK(again.image().package().parts[0].source_digest ==
          image.image().package().parts[0].source_digest);
}

TEST_CASE("extract: a trained checkpoint comes back as it was") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("needs the reference data");
    }
    const std::filesystem::path from = data + "/stories260K/stories260K.f32.gguf";
    const TempFolder temp;
    const auto paths = round_trip(temp, from, "f32");
    CHECK(digest_of(paths.first) == digest_of(paths.second));
    const GgufFile original(from);
    const GgufFile back(paths.gguf);
    check_same_tensors(original, back);
    CHECK(*original.string_array("tokenizer.ggml.tokens") ==
          *back.string_array("tokenizer.ggml.tokens"));
    CHECK(*original.float_array("tokenizer.ggml.scores") ==
          *back.float_array("tokenizer.ggml.scores"));
}

TEST_CASE("extract: what a GGUF of a llama cannot say is refused by name") {
    CHECK(refusal_of({}) == "accepted");
    const auto check = [](const Oddity& odd, const std::string& part) {
        const std::string text = refusal_of(odd);
        CAPTURE(text);
        CHECK(text.starts_with("image: part backbone: forward"));
        CHECK(contains(text, part));
    };
    check({.scale = 0.3}, "(attention): scale 0.300000 is not 1 / sqrt(head_dim)");
    check({.last_eps = 1e-6}, "(rms_norm): has another eps");
    check({.ffn_reads_x = true},
          "(linear): input 0 is the result of add, where a llama has rms_norm");
    check({.parallel = true}, "(add): reads another value");
    check({.second_rotation = true}, "(rope): reads another table");
    check({.shared_cache = true}, "shares the KV cache");
    check({.extra = true}, "(add): none of its inputs is the result of linear");
    check({.output_bias = true}, "(linear): has a bias");
    check({.second_ffn = 96}, "(add): ends a layer of another size");

    const TempFolder temp;
    TinyDims dims;
    dims.rotated = 8;
    write_tiny_model(make_tiny_model(dims, 1), temp / "partial");
    const Ran ran = run_tool(
        "m4fw", "extract " + (temp / "partial").string() + " --gguf " + (temp / "x.gguf").string());
    check_failure_of("m4fw", ran, 1, "(rope): turns 8 of 16 dimensions");
    CHECK_FALSE(std::filesystem::exists(temp / "x.gguf"));
}

TEST_CASE("extract: a tiny model with another fine part, and what the tool prints") {
    const TempFolder temp;
    write_tiny_model(make_tiny_model({}, 1), temp / "image");
    const auto image = (temp / "image").string();
    const auto gguf = (temp / "x.gguf").string();
    const Ran ran = run_tool("m4fw", "extract --json " + image + " --gguf " + gguf);
    CHECK(ran.status == 0);
    CHECK(contains(ran.out, "\"tensor_count\": 21"));
    CHECK(contains(ran.out, "\"bytes\": " + std::to_string(std::filesystem::file_size(gguf))));
    CHECK(GgufFile(gguf).real_value("llama.rope.freq_base") == 10000.0);

    const auto before = m4::test::read_file(gguf);
    check_failure_of("m4fw", run_tool("m4fw", "extract " + image + " --gguf " + gguf), 1,
                     "x.gguf: exists already");
    CHECK(m4::test::read_file(gguf) == before);
    CHECK(run_tool("m4fw", "extract --force " + image + " --gguf " + gguf).status == 0);
    CHECK(m4::test::read_file(gguf) == before);
    check_failure_of(
        "m4fw", run_tool("m4fw", "extract --force " + image + " --gguf " + temp.path().string()), 1,
        "exists and is not a file");
    check_failure_of("m4fw",
                     run_tool("m4fw", "extract " + image + " --gguf " + (temp / "no/x").string()),
                     1, "cannot open");
    check_failure_of("m4fw", run_tool("m4fw", "extract " + image), 2, "--gguf");
    check_failure_of("m4fw", run_tool("m4fw", "extract /nonexistent --gguf " + gguf), 1,
                     "/nonexistent");
    // Nothing is left beside the files that were meant.
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(temp.path())) {
        names.insert(entry.path().filename().string());
    }
    CHECK(names == std::set<std::string>{"image", "x.gguf"});
}

TEST_CASE("staged file: whole or not at all") {
    const TempFolder temp;
    const auto bytes = std::as_bytes(std::span("hello", 5));
    {
        StagedFile file(temp / "a", 0644, false);
        file.write(bytes);
    }
    CHECK(std::filesystem::is_empty(temp.path()));
    StagedFile late(temp / "a", 0644, false);
    late.write(bytes);
    m4::test::write_file(temp / "a", bytes.first(1));
    CHECK(contains(refusal([&] { late.commit(); }), "exists already"));
    CHECK(m4::test::read_file(temp / "a").size() == 1);
    CHECK(contains(refusal([&] { StagedFile(temp / "..", 0644, true); }), "is no name"));
}

TEST_CASE("rope recovery: the settings behind a table") {
    for (const double theta : {10000.0, 500000.0, 1000000.0, 12345.678, 8.0e6}) {
        for (const std::uint32_t dimensions : {4U, 16U, 64U, 128U}) {
            for (const std::uint64_t context : {100U, 4096U}) {
                RopeSettings settings;
                settings.theta = static_cast<double>(static_cast<float>(theta));
                const auto found = recovered(settings, dimensions, context);
                CAPTURE(theta);
                CAPTURE(dimensions);
                CHECK(found.scaling == RopeSettings::Scaling::none);
                CHECK(found.theta == settings.theta);
            }
        }
    }
    CHECK(recovered({}, 2, 64).scaling == RopeSettings::Scaling::none);
    CHECK(recovered({.theta = 500.0}, 16, 64, 16).theta == 500.0);
    CHECK(recovered({.theta = 500.0}, 16, 64, 1).theta == 500.0);

    const RopeSettings linear{
        .theta = 10000.0, .scaling = RopeSettings::Scaling::linear, .factor = 4.0};
    CHECK(recovered(linear, 64, 4096).scaling == RopeSettings::Scaling::linear);
    CHECK(recovered(linear, 64, 4096).factor == 4.0);
    CHECK(recovered(linear, 64, 4096).theta == 10000.0);

    RopeSettings llama3{
        .theta = 500000.0, .scaling = RopeSettings::Scaling::llama3, .factor = 32.0};
    llama3.original_context = 8192;
    const auto found = recovered(llama3, 64, 16384);
    REQUIRE(found.scaling == RopeSettings::Scaling::factors);
    CHECK(found.theta == 500000.0);
    CHECK(found.factors.front() == 1.0F);
    CHECK(found.factors.back() == 32.0F);
    const auto want = rope_frequencies(llama3, 64);
    const auto have = rope_frequencies(found, 64);
    for (std::size_t pair = 0; pair < want.size(); ++pair) {
        CHECK(have[pair] == doctest::Approx(want[pair]).epsilon(1e-7));
    }
}

TEST_CASE("rope recovery: numbers that are no rotations") {
    const auto fault = [](std::vector<float> table) {
        return refusal([&] { static_cast<void>(recover_rope(table, 4, 2, "table")); });
    };
    CHECK(contains(fault(std::vector<float>(16, 0.5F)), "table: is not a table of rotations"));
    CHECK(contains(fault(std::vector<float>(16, 0.0F)), "is not a table"));
    CHECK(contains(fault(std::vector<float>(16, NAN)), "is not a table"));
    CHECK(contains(fault(std::vector<float>(16, INFINITY)), "is not a table"));
}
