// SPDX-License-Identifier: MIT
// The verifier on encoders: a small one with every operator they bring, and what
// breaks it, one thing a case.
#include <doctest/doctest.h>

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

/// A digit's patches, a class token, places, one block, both outputs:
///   value 0 features [28 S, 28]
///   op 0 unfold, 1 linear, 2 prepend, 3 add, 4 layer_norm, 5 q, 6 k, 7 v,
///   8 self_attention, 9 linear, 10 add, 11 activation, 12 select_row, 13 l2_norm,
///   14 mean_rows
struct Draft {
    std::vector<Tensor> tensors;
    Package package;

    Draft() {
        ProgramBuilder program("encode");
        const auto none = ProgramBuilder::none();
        auto x = program.features(28, 28);
        x = program.unfold(x, {.height = 28,
                               .width = 28,
                               .kernel_h = 7,
                               .kernel_w = 7,
                               .stride_h = 7,
                               .stride_w = 7});
        x = program.linear(x, matrix(kWidth, 49), vector(kWidth), kWidth);
        x = program.prepend(x, plain(1, kWidth), 1);
        x = program.add(x, plain(17, kWidth));
        const auto h = program.layer_norm(x, vector(kWidth), vector(kWidth), 1e-6);
        const auto q = program.linear(h, matrix(kWidth, kWidth), none, kWidth);
        const auto k = program.linear(h, matrix(16, kWidth), none, 16);
        const auto v = program.linear(h, matrix(16, kWidth), none, 16);
        auto y = program.self_attention(q, k, v, {.heads = 4, .kv_heads = 2, .scale = 0.25});
        y = program.linear(y, matrix(kWidth, kWidth), vector(kWidth), kWidth);
        x = program.add(x, y);
        x = program.activation(x, Activation::gelu);
        program.output(Role::embedding, program.l2_norm(program.select_row(x, 0), 20));
        program.output(Role::hidden, x);
        (void)program.mean_rows(x);
        Part part;
        part.name = "image";
        part.kind = PartKind::encoder;
        part.architecture = "vit";
        part.programs.push_back(program.finish());
        package.parts.push_back(std::move(part));
    }

    Operand tensor(m4_layout layout, std::uint32_t rank, std::uint64_t rows,
                   std::uint64_t columns) {
        Tensor added;
        added.name = "some";
        added.dtype = M4_DTYPE_F32;
        added.layout = layout;
        added.rank = rank;
        added.shape = {rows, columns, 1, 1};
        tensors.push_back(added);
        return ProgramBuilder::tensor(static_cast<std::uint32_t>(tensors.size() - 1));
    }
    Operand matrix(std::uint64_t rows, std::uint64_t columns) {
        return tensor(M4_LAYOUT_ROWS16, 2, rows, columns);
    }
    Operand plain(std::uint64_t rows, std::uint64_t columns) {
        return tensor(M4_LAYOUT_PLAIN, 2, rows, columns);
    }
    Operand vector(std::uint64_t length) { return tensor(M4_LAYOUT_PLAIN, 1, length, 1); }

    Part& part() { return package.parts[0]; }
    Program& program() { return part().programs[0]; }
    Op& op(std::size_t index) { return program().ops.at(index); }
    Value& input(std::size_t index, std::size_t slot) {
        return program().values.at(op(index).inputs.at(slot).index);
    }
    Tensor& tensor_of(std::size_t index, std::size_t slot) {
        return tensors.at(op(index).inputs.at(slot).index);
    }
    void set(std::size_t index, AttrId id, std::int64_t integer) {
        op(index).integers.at(static_cast<std::size_t>(id)) = integer;
    }
    void set_real(std::size_t index, AttrId id, double real) {
        op(index).reals.at(static_cast<std::size_t>(id)) = real;
    }
};

using Case = test::VerifyCase<Draft>;

}  // namespace

TEST_CASE("an encoder with every operator they bring is accepted, as structs and as a blob") {
    Draft draft;
    CHECK(draft.program().ops.size() == 15);
    CHECK(draft.program().fusions.size() == 1);  // the residual
    CHECK(refusal([&] { verify_package(draft.package, draft.tensors); }) == "accepted");
    const Package again = verify_package(encode_package(draft.package), draft.tensors);
    CHECK(again.parts.at(0).kind == PartKind::encoder);
    CHECK(again.parts.at(0).programs.at(0).ops.at(0).integer(AttrId::kernel_w) == 7);
    CHECK(again.parts.at(0).programs.at(0).ops.at(13).real(AttrId::scale) == 20);
    CHECK(again.parts.at(0).programs.at(0).values.at(0).dims[0] == Dim{28, Symbol::items});
}

TEST_CASE("encoders: each broken rule is refused by name") {
    constexpr Case kCases[] = {
        {"context", [](Draft& d) { d.part().context_length = 5; },
         "part image: an encoder without tokens has a context length"},
        {"vocabulary", [](Draft& d) { d.part().vocabulary = 5; }, "an encoder without tokens has"},
        {"tokenizer", [](Draft& d) { d.part().tokenizer_tensor = 5; },
         "part image: an encoder without tokens has a tokenizer"},
        {"program", [](Draft& d) { d.program().name = "forward"; },
         "part image: no program 'encode'"},
        {"no input", [](Draft& d) { d.program().inputs.clear(); }, "no features input"},
        {"token ids", [](Draft& d) { d.program().inputs[0].role = Role::token_ids; },
         "part image: context length 0 is not 1 to 2^24"},
        {"picked rows of floats", [](Draft& d) { d.program().inputs[0].role = Role::picked_rows; },
         "input port 0: f32[28 items, 28] instead of u32[items]"},
        {"picked rows without tokens",
         [](Draft& d) {
             d.program().values.push_back({M4_DTYPE_U32, {{1, Symbol::items}}});
             d.program().inputs.push_back(
                 {Role::picked_rows, static_cast<std::uint32_t>(d.program().values.size() - 1)});
         },
         "part image: encode: picks rows without token_ids"},
        {"positions", [](Draft& d) { d.program().inputs[0].role = Role::positions; },
         "input port 0: unknown role 2"},
        {"features by token",
         [](Draft& d) { d.program().values[0].dims[0].symbol = Symbol::tokens; },
         "input port 0: f32[28 tokens, 28] is no F32 matrix of items"},
        {"no output", [](Draft& d) { d.program().outputs.clear(); },
         "part image: encode: no output"},
        {"logits", [](Draft& d) { d.program().outputs[0].role = Role::logits; },
         "output port 0: unknown role 4"},
        {"embedding of many rows",
         [](Draft& d) { d.program().outputs[0].value = d.program().outputs[1].value; },
         "output port 0: f32[17 items, 32] is no F32 matrix of a row an item"},
        {"two embeddings", [](Draft& d) { d.program().outputs[1] = d.program().outputs[0]; },
         "output port 1: a second port of this role"},
        {"kernel wider than the plane", [](Draft& d) { d.set(0, AttrId::kernel_w, 29); },
         "op 0 (unfold): attribute kernel_w: 29 is wider than a plane of 28"},
        {"no kernel", [](Draft& d) { d.set(0, AttrId::kernel_h, 0); },
         "attribute kernel_h: 0 is not 1 to 2^31"},
        {"no stride", [](Draft& d) { d.set(0, AttrId::stride_h, 0); },
         "attribute stride_h: 0 is not 1 to 2^31"},
        {"negative padding", [](Draft& d) { d.set(0, AttrId::pad_w, -1); },
         "attribute pad_w: -1 is not 0 up to"},
        {"padding past the kernel", [](Draft& d) { d.set(0, AttrId::pad_h, 7); },
         "attribute pad_h: 7 is not 0 up to below the kernel's 7"},
        {"planes", [](Draft& d) { d.set(0, AttrId::channels, 3); },
         "attribute channels: f32[28 items, 28] has not 3 planes an item"},
        {"another count of windows", [](Draft& d) { d.set(0, AttrId::stride_w, 3); },
         "op 0 (unfold): output 0"},
        {"class token's width", [](Draft& d) { d.tensor_of(2, 1).shape[1] = 31; },
         "op 2 (prepend): input 1: tensor 'some' has 31 columns instead of 32"},
        {"class token's layout", [](Draft& d) { d.tensor_of(2, 1).layout = M4_LAYOUT_ROWS16; },
         "op 2 (prepend): input 1: tensor 'some' is not plain F32 of rank 2"},
        {"rows before", [](Draft& d) { d.tensor_of(2, 1).shape[0] = 0xFFFFFFFF; },
         "op 2 (prepend): output 0"},
        {"places", [](Draft& d) { d.tensor_of(3, 1).shape[0] = 16; },
         "op 3 (add): input 1: tensor 'some' has 16 rows"},
        {"bias of a norm", [](Draft& d) { d.tensor_of(4, 2).shape[0] = 16; },
         "op 4 (layer_norm): input 2"},
        {"eps", [](Draft& d) { d.set_real(4, AttrId::eps, 0); }, "attribute eps"},
        {"heads", [](Draft& d) { d.set(8, AttrId::heads, 5); },
         "op 8 (self_attention): attribute heads: 5 is no multiple of 2 KV heads"},
        {"KV heads' width", [](Draft& d) { d.set(8, AttrId::kv_heads, 1); },
         "op 8 (self_attention): input 1"},
        {"values unlike keys", [](Draft& d) { d.op(8).inputs[2].index = d.op(8).inputs[0].index; },
         "op 8 (self_attention): input 2: f32[17 items, 32] is not f32[17 items, 16] as the keys"},
        {"causal", [](Draft& d) { d.set(8, AttrId::causal, 2); }, "attribute causal: 2 is not 0"},
        {"causal, of other rows",
         [](Draft& d) {
             // q of the patches, before the class token came
             d.op(5).inputs[0].index = d.op(1).outputs[0];
             d.program().values.at(d.op(5).outputs[0]).dims[0].factor = 16;
             d.set(8, AttrId::causal, 1);
         },
         "attribute causal: 1 is not 0, nor 1 with as many keys as rows in an item"},
        {"scale", [](Draft& d) { d.set_real(8, AttrId::scale, -1); }, "attribute scale"},
        {"function", [](Draft& d) { d.set(11, AttrId::function, 7); },
         "op 11 (activation): attribute function: 7 is not a function"},
        {"row", [](Draft& d) { d.set(12, AttrId::row, 17); },
         "op 12 (select_row): attribute row: 17 is none of an item's 17 rows"},
        {"row below", [](Draft& d) { d.set(12, AttrId::row, -1); }, "attribute row: -1 is none"},
        {"a group with a tensor",
         [](Draft& d) {
             d.program().fusions = {{FusionKind::residual, 2, 2}};
         },
         "fusion 0: the group does not begin with a linear"},
    };
    test::check_cases(kCases);
}

TEST_CASE("encoders of tokens: accepted, and each broken rule refused by name") {
    struct TextCase {
        const char* name;
        void (*change)(Part&);
        const char* expected;
    };
    const TextCase cases[] = {
        {"whole", [](Part& /*part*/) {}, "accepted"},
        {"no context", [](Part& p) { p.context_length = 0; }, "context length 0 is not 1 to 2^24"},
        {"another context", [](Part& p) { p.context_length = 76; },
         "input port 0: u32[77 items] instead of u32[76 items]"},
        {"a larger vocabulary", [](Part& p) { p.vocabulary = 101; },
         "tensor 'some' has 100 rows; input 1 may name 101"},
        {"rows of a value by its tokens",
         [](Part& p) { p.programs[0].ops.back().inputs[1].index = 0; },
         "op 1 (gather_rows): input 1: rows of items are chosen by the picked_rows input"},
        {"picked from other rows than the tokens'",
         [](Part& p) {
             Program& program = p.programs[0];
             Op mean;
             mean.code = OpCode::mean_rows;
             mean.inputs = {{OperandKind::value, program.ops[0].outputs[0]}};
             mean.outputs = {static_cast<std::uint32_t>(program.values.size())};
             program.values.push_back({M4_DTYPE_F32, {{1, Symbol::items}, {kWidth, Symbol::none}}});
             program.ops.back().inputs[0].index = mean.outputs[0];
             program.ops.insert(program.ops.begin() + 1, mean);
         },
         "op 2 (gather_rows): input 0: f32[items, 32] has not a row for each of an item's 77"},
        {"features besides",
         [](Part& p) {
             Program& program = p.programs[0];
             program.values.push_back({M4_DTYPE_F32, {{3, Symbol::items}, {4, Symbol::none}}});
             program.inputs.push_back(
                 {Role::features, static_cast<std::uint32_t>(program.values.size() - 1)});
         },
         "features and token_ids inputs"},
    };
    for (const TextCase& one : cases) {
        CAPTURE(std::string(one.name));
        Draft tensors;
        ProgramBuilder program("encode");
        const auto ids = program.input(Role::token_ids, Symbol::items, 77);
        const auto rows = program.gather_rows(tensors.matrix(100, kWidth), ids, kWidth);
        const auto picked = program.input(Role::picked_rows, Symbol::items);
        program.output(Role::embedding, program.gather_rows(rows, picked, kWidth));
        Part part;
        part.name = "text";
        part.kind = PartKind::encoder;
        part.context_length = 77;
        part.vocabulary = 100;
        part.programs.push_back(program.finish());
        one.change(part);
        const Package package{{part}};
        const std::string text = refusal([&] { verify_package(package, tensors.tensors); });
        CAPTURE(text);
        CHECK(text.find(one.expected) != std::string::npos);
    }
}

TEST_CASE("fusions: a gate of another function, and a tensor added, are left alone") {
    ProgramBuilder program("encode");
    Draft tensors;
    auto x = program.features(4, kWidth);
    const auto norm = program.rms_norm(x, tensors.vector(kWidth), 1e-5);
    const auto weight = tensors.matrix(kWidth, kWidth);
    const auto gate = program.linear(norm, weight, {}, kWidth);
    const auto up = program.linear(norm, weight, {}, kWidth);
    x = program.mul(program.activation(gate, Activation::gelu), up);
    x = program.add(program.linear(x, weight, {}, kWidth), tensors.plain(4, kWidth));
    program.output(Role::hidden, x);
    const Program finished = program.finish();
    REQUIRE(finished.fusions.size() == 1);
    CHECK(finished.fusions[0] == Fusion{FusionKind::projection, 0, 3});
}

}  // namespace m4::firmware
