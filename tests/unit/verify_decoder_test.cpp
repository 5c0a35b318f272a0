// SPDX-License-Identifier: MIT
// The verifier on decoders: a small one with its encoder, and what breaks it, one
// thing a case.
#include <doctest/doctest.h>

#include <cmath>
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

constexpr std::uint32_t kWidth = 32;
constexpr std::uint32_t kRows = 40;
constexpr std::uint32_t kContext = 20;
constexpr std::uint32_t kVocabulary = 50;

/// An encoder that gives 40 rows, and a decoder of one layer:
///   prepare: op 0 k, 1 v, 2 kv_write
///   forward: op 0 gather_rows of tokens, 1 of positions, 2 add, 3 kv_write,
///   4 attention, 5 attention to the memory, 6 gather_rows of outputs, 7 linear
struct Draft {
    std::vector<Tensor> tensors;
    Package package;

    Draft() {
        ProgramBuilder encode("encode");
        const auto features = encode.features(kRows, kWidth);
        encode.output(Role::hidden, encode.activation(features, Activation::gelu));
        Part ear;
        ear.name = "ear";
        ear.kind = PartKind::encoder;
        ear.space = "sound";
        ear.programs.push_back(encode.finish());
        package.parts.push_back(std::move(ear));
        Part mouth;
        mouth.name = "mouth";
        mouth.kind = PartKind::decoder;
        mouth.context_length = kContext;
        mouth.vocabulary = kVocabulary;
        mouth.memory_rows = kRows;
        mouth.space = "sound";
        mouth.programs = {prepare(), forward()};
        mouth.transcription = Transcription{.start = 1,
                                            .end = 2,
                                            .languages = {{"en", 3}, {"de", 4}},
                                            .transcribe = 5,
                                            .translate = 6,
                                            .no_timestamps = 7,
                                            .first_timestamp = 8,
                                            .timestamp_ms = 20,
                                            .latest_first = 10,
                                            .suppressed = {9, 10},
                                            .suppressed_first = {11},
                                            .no_speech = 12,
                                            .no_speech_probability = 0.6F,
                                            .least_log_probability = -1};
        package.parts.push_back(std::move(mouth));
    }

    Program prepare() {
        ProgramBuilder program("prepare");
        const auto rows = program.memory_features(kWidth);
        const auto positions = program.input(Role::positions, Symbol::tokens);
        (void)program.state(2, 16);
        const auto memory = program.state(2, 16, StateKind::memory);
        const auto k = program.linear(rows, matrix(kWidth), ProgramBuilder::none(), kWidth);
        const auto v = program.linear(rows, matrix(kWidth), ProgramBuilder::none(), kWidth);
        program.kv_write(memory, k, v, positions);
        return program.finish();
    }

    Program forward() {
        ProgramBuilder program("forward");
        const auto ids = program.input(Role::token_ids, Symbol::tokens);
        const auto positions = program.input(Role::positions, Symbol::tokens);
        const auto outputs = program.input(Role::output_rows, Symbol::outputs);
        const auto last = program.input(Role::memory_positions, Symbol::tokens);
        const auto own = program.state(2, 16);
        const auto memory = program.state(2, 16, StateKind::memory);
        const auto embedding = matrix(kVocabulary);
        auto x = program.add(program.gather_rows(embedding, ids, kWidth),
                             program.gather_rows(matrix(kContext), positions, kWidth));
        program.kv_write(own, x, x, positions);
        x = program.attention(x, own, positions, 2, 0.25);
        x = program.attention(x, memory, last, 2, 0.25);
        x = program.gather_rows(x, outputs, kWidth);
        program.output(Role::logits,
                       program.linear(x, embedding, ProgramBuilder::none(), kVocabulary));
        return program.finish();
    }

    Operand matrix(std::uint64_t rows) {
        Tensor added;
        added.name = "some";
        added.dtype = M4_DTYPE_F32;
        added.layout = M4_LAYOUT_ROWS16;
        added.rank = 2;
        added.shape = {rows, kWidth, 1, 1};
        tensors.push_back(added);
        return ProgramBuilder::tensor(static_cast<std::uint32_t>(tensors.size() - 1));
    }

    Part& part() { return package.parts[1]; }
    Transcription& asked() { return *part().transcription; }
    Program& program(std::size_t index) { return part().programs[index]; }
    Op& op(std::size_t of, std::size_t index) { return program(of).ops.at(index); }
};

constexpr std::size_t kPrepare = 0;
constexpr std::size_t kForward = 1;

using Case = test::VerifyCase<Draft>;

}  // namespace

TEST_CASE("a decoder is accepted, as structs and as a blob") {
    const Draft draft;
    CHECK(refusal([&] { verify_package(draft.package, draft.tensors); }) == "accepted");
    const auto blob = encode_package(draft.package);
    const Package again = verify_package(blob, draft.tensors);
    CHECK(encode_package(again) == blob);
    const Part& part = again.parts.at(1);
    CHECK(part.kind == PartKind::decoder);
    CHECK(part.memory_rows == kRows);
    CHECK(part.programs.at(kForward).states.at(1).kind == StateKind::memory);
    REQUIRE(part.transcription);
    CHECK(part.transcription->languages.at(1).code == "de");
    CHECK(part.transcription->languages.at(1).token == 4);
    CHECK(part.transcription->timestamp_ms == 20);
    CHECK(part.transcription->suppressed == std::vector<std::uint32_t>{9, 10});
    CHECK(!again.parts.at(0).transcription);
}

TEST_CASE("decoders: sizes, programs and company") {
    constexpr Case kCases[] = {
        {"no memory", [](Draft& d) { d.part().memory_rows = 0; },
         "part mouth: memory of 0 rows is not 1 to 2^24"},
        {"less than its context", [](Draft& d) { d.part().memory_rows = 19; },
         "part mouth: context length 20 is over the memory's 19 rows"},
        {"vocabulary", [](Draft& d) { d.part().vocabulary = 0; },
         "part mouth: vocabulary 0 is not 1 to 2^31"},
        {"tokenizer", [](Draft& d) { d.part().tokenizer_tensor = 1; },
         "tokenizer tensor 1 is not a U8 section"},
        {"no space", [](Draft& d) { d.part().space.clear(); }, "a decoder of no space"},
        {"recipe", [](Draft& d) { d.part().recipe = TextRecipe{}; },
         "has a recipe or labels and is no encoder"},
        {"a third program",
         [](Draft& d) {
             d.part().programs.push_back(d.program(kForward));
             d.program(2).name = "other";
         },
         "3 programs instead of 'prepare' and 'forward'"},
        {"no prepare", [](Draft& d) { d.program(kPrepare).name = "before"; },
         "no program 'prepare'"},
        {"other states", [](Draft& d) { d.program(kPrepare).states[0].kv_heads = 4; },
         "'prepare' and 'forward' have other states"},
        {"no encoder", [](Draft& d) { d.package.parts[0].space = "sight"; },
         "part mouth: no encoder of space 'sound'"},
        {"two encoders",
         [](Draft& d) {
             d.package.parts.push_back(d.package.parts[0]);
             d.package.parts[2].name = "other-ear";
         },
         "part mouth: space 'sound' has several encoders"},
        {"other rows", [](Draft& d) { d.part().memory_rows = 39; },
         "part mouth: takes 39 rows of 32 columns, but part ear gives 40 of 32"},
        {"an encoder with memory", [](Draft& d) { d.package.parts[0].memory_rows = 5; },
         "part ear: has memory or a transcription and is no decoder"},
        {"an encoder that is asked",
         [](Draft& d) { d.package.parts[0].transcription = Transcription{}; },
         "part ear: has memory or a transcription and is no decoder"},
    };
    test::check_cases(kCases);
}

TEST_CASE("decoders: ports, states and what reads them") {
    constexpr Case kCases[] = {
        {"prepare without rows",
         [](Draft& d) { d.program(kPrepare).inputs.erase(d.program(kPrepare).inputs.begin()); },
         "prepare: no features input"},
        {"prepare without positions",
         [](Draft& d) { d.program(kPrepare).inputs[1].role = Role::memory_positions; },
         "prepare: input port 1: unknown role 11"},
        {"prepare takes tokens",
         [](Draft& d) { d.program(kPrepare).inputs[1].role = Role::token_ids; },
         "prepare: input port 1: unknown role 1"},
        {"prepare gives something",
         [](Draft& d) {
             d.program(kPrepare).outputs.push_back({Role::logits, 2});
         },
         "prepare: output port 0: unknown role 4"},
        {"rows of items",
         [](Draft& d) { d.program(kPrepare).values[0].dims[0].symbol = Symbol::items; },
         "prepare: input port 0: f32[items, 32] is no F32 matrix of tokens"},
        {"no memory positions",
         [](Draft& d) { d.program(kForward).inputs[3].role = Role::embedded_rows; },
         "forward: input port 3: unknown role 10"},
        {"memory positions of outputs",
         [](Draft& d) { d.program(kForward).values[3].dims[0].symbol = Symbol::outputs; },
         "forward: input port 3: u32[outputs] instead of u32[tokens]"},
        {"features", [](Draft& d) { d.program(kForward).inputs[3].role = Role::features; },
         "forward: input port 3: unknown role 5"},
        {"forward writes the memory", [](Draft& d) { d.op(kForward, 3).inputs[0].index = 1; },
         "forward: op 3 (kv_write): input 0: state 1 is another program's to write"},
        {"prepare writes tokens'", [](Draft& d) { d.op(kPrepare, 2).inputs[0].index = 0; },
         "prepare: op 2 (kv_write): input 0: state 0 is another program's to write"},
        {"prepare writes nothing", [](Draft& d) { d.program(kPrepare).ops.pop_back(); },
         "prepare: state 1: is never written"},
        {"prepare writes twice",
         [](Draft& d) { d.program(kPrepare).ops.push_back(d.op(kPrepare, 2)); },
         "prepare: op 3 (kv_write): input 0: state 1 is written twice"},
        {"memory up to the row's own",
         [](Draft& d) { d.op(kForward, 5).inputs[2] = d.op(kForward, 4).inputs[2]; },
         "forward: op 5 (attention): input 2: is not the memory_positions input"},
        {"all tokens, those to come too",
         [](Draft& d) { d.op(kForward, 4).inputs[2] = d.op(kForward, 5).inputs[2]; },
         "forward: op 4 (attention): input 2: is not the positions input"},
        {"tokens written at the memory's end",
         [](Draft& d) { d.op(kForward, 3).inputs[3] = d.op(kForward, 5).inputs[2]; },
         "forward: op 3 (kv_write): input 3: is not the positions input"},
        {"rows chosen by the memory's end",
         [](Draft& d) { d.op(kForward, 1).inputs[1] = d.op(kForward, 5).inputs[2]; },
         "rows of a tensor are chosen by the token_ids or positions input"},
        {"unknown kind",
         [](Draft& d) {
             for (Program& program : d.part().programs) {
                 program.states[0].kind = static_cast<StateKind>(3);
             }
         },
         "state 0: kind 3 is not one of this part's"},
        {"an encoder's memory",
         [](Draft& d) {
             d.package.parts[0].programs[0].states.push_back({1, 8, StateKind::memory});
         },
         "part ear: encode: state 0: kind 2 is not one of this part's"},
    };
    test::check_cases(kCases);
}

TEST_CASE("decoders: positions reach as far as what they count") {
    // Of a row of memory, up to the memory's end; of a token, up to the context's.
    Draft draft;
    ProgramBuilder program("prepare");
    const auto rows = program.memory_features(kWidth);
    const auto positions = program.input(Role::positions, Symbol::tokens);
    (void)program.state(2, 16);
    const auto memory = program.state(2, 16, StateKind::memory);
    const auto x = program.add(rows, program.gather_rows(draft.matrix(kRows), positions, kWidth));
    program.kv_write(memory, x, x, positions);
    draft.program(kPrepare) = program.finish();
    CHECK(refusal([&] { verify_package(draft.package, draft.tensors); }) == "accepted");
    draft.tensors.back().shape[0] = kRows - 1;
    CHECK(test::contains(refusal([&] { verify_package(draft.package, draft.tensors); }),
                         "prepare: op 0 (gather_rows): input 0: tensor 'some' has 39 rows; input 1 "
                         "may name 40"));
}

TEST_CASE("decoders: how they are asked") {
    constexpr Case kCases[] = {
        {"start", [](Draft& d) { d.asked().start = 50; },
         "part mouth: transcription: token 50 is not below the vocabulary, 50"},
        {"end", [](Draft& d) { d.asked().end = 1U << 31U; }, "token 2147483648 is not below"},
        {"suppressed", [](Draft& d) { d.asked().suppressed_first[0] = 50; },
         "suppressed token 50 is not below"},
        {"language", [](Draft& d) { d.asked().languages[0].token = 99; },
         "language en is token 99, not below the vocabulary"},
        {"a language twice", [](Draft& d) { d.asked().languages[1].code = "en"; },
         "a language's code is not"},
        {"a language's name", [](Draft& d) { d.asked().languages[1].code = "D\n"; },
         "a language's code is not"},
        {"languages without a task", [](Draft& d) { d.asked().transcribe = 0; },
         "it has languages or tasks, but not both"},
        {"tasks without a language", [](Draft& d) { d.asked().languages.clear(); },
         "it has languages or tasks, but not both"},
        {"times of nothing", [](Draft& d) { d.asked().timestamp_ms = 0; },
         "times of 0 ms from token 8 on are none"},
        {"no times", [](Draft& d) { d.asked().first_timestamp = 0; },
         "times of 20 ms from token 0 on are none"},
        {"times too far apart", [](Draft& d) { d.asked().timestamp_ms = 60'001; },
         "times of 60001 ms"},
        {"silence", [](Draft& d) { d.asked().no_speech = 50; }, "token 50 is not below"},
        {"silence that is certain", [](Draft& d) { d.asked().no_speech_probability = 1.5F; },
         "silence is no token with a probability and a logarithm of one"},
        {"silence of no probability", [](Draft& d) { d.asked().no_speech_probability = NAN; },
         "silence is no token with"},
        {"silence that is likely", [](Draft& d) { d.asked().least_log_probability = 0; },
         "silence is no token with"},
        {"silence without end", [](Draft& d) { d.asked().least_log_probability = -INFINITY; },
         "silence is no token with"},
        {"silence without a token", [](Draft& d) { d.asked().no_speech = 0; },
         "silence is no token with"},
        {"the latest", [](Draft& d) { d.asked().latest_first = 42; },
         "the latest first time, 42, is none of the vocabulary's"},
    };
    test::check_cases(kCases);
    Draft draft;
    draft.asked().latest_first = 41;
    CHECK(refusal([&] { verify_package(draft.package, draft.tensors); }) == "accepted");
    draft.asked().suppressed.assign(65'537, 1);
    CHECK(test::contains(
        refusal([&] { verify_package(encode_package(draft.package), draft.tensors); }),
        "65537 suppressed tokens, more than 65536"));
}

}  // namespace m4::firmware
