// SPDX-License-Identifier: MIT
#include "lib/verify.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "image_samples.hpp"
#include "lib/fusion.hpp"
#include "lib/image.hpp"
#include "lib/operators.hpp"
#include "package_sample.hpp"
#include "verify_cases.hpp"

using namespace m4::firmware;
using namespace m4::test;

namespace {

/// What one case may change.
struct Draft {
    Package package = sample().package();
    std::vector<Tensor> tensors = sample().tensors;

    Part& part() { return package.parts[0]; }
    Program& program() { return part().programs[0]; }
    Op& op(std::size_t index) { return program().ops.at(index); }
    Value& value_of(std::size_t op_index) {
        return program().values.at(op(op_index).outputs.at(0));
    }
    Tensor& tensor(const std::string& name) { return tensors.at(sample().tensor(name)); }
    void set(std::size_t op_index, AttrId id, std::int64_t integer) {
        op(op_index).integers.at(static_cast<std::size_t>(id)) = integer;
    }
    void set_real(std::size_t op_index, AttrId id, double real) {
        op(op_index).reals.at(static_cast<std::size_t>(id)) = real;
    }
};

using Case = VerifyCase<Draft>;

constexpr const char* kGather = "part backbone: forward: op 0 (gather_rows)";

}  // namespace

TEST_CASE("a good package passes, as structs and through its blob, unchanged") {
    const Package& package = sample().mapped.image().package();
    CHECK(refusal([&] { verify_package(package, sample().tensors); }) == "accepted");
    const auto blob = encode_package(package);
    const Package again = verify_package(blob, sample().tensors);
    CHECK(encode_package(again) == blob);
    REQUIRE(package.parts.at(0).programs.at(0).ops.size() == 38);
    REQUIRE(again.parts.at(0).programs.at(0).ops.at(5).code == OpCode::rope);
    CHECK(again.parts.at(0).programs.at(0).ops.at(5).integer(AttrId::head_dim) == 16);
    CHECK(again.parts.at(0).programs.at(0).ops.at(1).real(AttrId::eps) == 1e-5);
}

TEST_CASE("the operator set is what ops.def says") {
    CHECK(operator_set().size() == 16);
    CHECK(operator_set().size() <= 39);
    CHECK(find_op(3)->name == "linear");
    CHECK(find_op(0) == nullptr);
    CHECK(find_op(65'535) == nullptr);
    for (const OpInfo& info : operator_set()) {
        for (const AttrInfo* attribute : attributes_of(info)) {
            CHECK(contains(std::string(info.attributes), std::string(attribute->name)));
        }
    }
    CHECK(attributes_of(*find_op(4)).size() == 3);
}

TEST_CASE("parts") {
    constexpr Case kCases[] = {
        {"none", [](Draft& d) { d.package.parts.clear(); }, "program blob: no parts"},
        {"name", [](Draft& d) { d.part().name = "Back bone"; }, "part Back bone: name is not"},
        {"no name", [](Draft& d) { d.part().name.clear(); }, "part 0: name is not"},
        {"same name", [](Draft& d) { d.package.parts.push_back(d.part()); },
         "part backbone: a second part"},
        {"unprintable name", [](Draft& d) { d.part().name = "a\x1b[31m"; }, "part 0: name is not"},
        {"architecture", [](Draft& d) { d.part().architecture = "a\n"; },
         "part backbone: architecture is not printable"},
        {"kind", [](Draft& d) { d.part().kind = static_cast<PartKind>(9); }, "unknown kind 9"},
        {"context 0", [](Draft& d) { d.part().context_length = 0; }, "context length 0"},
        {"context", [](Draft& d) { d.part().context_length = (1U << 24U) + 1; },
         "context length 16777217"},
        {"vocabulary", [](Draft& d) { d.part().vocabulary = 0; }, "vocabulary 0"},
        {"tokenizer type", [](Draft& d) { d.part().tokenizer_tensor = 1; },
         "tokenizer tensor 1 is not a U8 section"},
        {"tokenizer index", [](Draft& d) { d.part().tokenizer_tensor = 9999; },
         "tokenizer tensor 9999"},
        {"tensor of no part", [](Draft& d) { d.tensor("final_norm").part = 1; },
         "tensor 'final_norm': part 1 does not exist"},
        {"no forward", [](Draft& d) { d.program().name = "backward"; }, "no program 'forward'"},
        {"two forwards", [](Draft& d) { d.part().programs.push_back(d.program()); },
         "part backbone: forward: a second program"},
        {"too many programs", [](Draft& d) { d.part().programs.resize(17, d.part().programs[0]); },
         "17 programs, more than 16"},
    };
    check_cases(kCases);
}

TEST_CASE("values and states") {
    constexpr Case kCases[] = {
        {"rank 0", [](Draft& d) { d.program().values[3].dims.clear(); },
         "forward: value 3: rank 0"},
        {"rank 3", [](Draft& d) { d.program().values[3].dims.push_back({}); }, "value 3: rank 3"},
        {"zero", [](Draft& d) { d.program().values[3].dims[1].factor = 0; },
         "value 3: a dimension of 0"},
        {"large", [](Draft& d) { d.program().values[3].dims[1].factor = (1U << 31U) + 1; },
         "value 3: a dimension of 2147483649"},
        {"over 1 GiB", [](Draft& d) { d.program().values[3].dims[1].factor = (1U << 28U) + 1; },
         "value 3: more than 1 GiB"},
        {"overflow",
         [](Draft& d) {
             d.program().values[3].dims = {{1U << 31U, Symbol::tokens}, {1U << 31U, Symbol::none}};
         },
         "value 3: more than 1 GiB"},
        {"symbol", [](Draft& d) { d.program().values[3].dims[0].symbol = static_cast<Symbol>(7); },
         "value 3: unknown symbol 7"},
        {"varying columns", [](Draft& d) { d.program().values[3].dims[1].symbol = Symbol::tokens; },
         "value 3: only the first dimension"},
        {"stored type", [](Draft& d) { d.program().values[3].dtype = M4_DTYPE_F16; },
         "value 3: type 3 is not"},
        {"never defined", [](Draft& d) { d.program().values.push_back(d.program().values[3]); },
         "is never defined"},
        {"too many", [](Draft& d) { d.program().values.resize(65'537, d.program().values[3]); },
         "65537 values, more than 65536"},
        {"empty state", [](Draft& d) { d.program().states[1].kv_heads = 0; }, "forward: state 1:"},
        {"large state",
         [](Draft& d) {
             d.program().states[1] = {1U << 31U, 1U << 31U};
         },
         "forward: state 1:"},
        {"state never written",
         [](Draft& d) {
             d.program().states.push_back({2, 16});
         },
         "forward: state 2: is never written"},
    };
    check_cases(kCases);
}

TEST_CASE("ports") {
    constexpr Case kCases[] = {
        {"unknown role", [](Draft& d) { d.program().inputs[0].role = static_cast<Role>(77); },
         "forward: input port 0: unknown role 77"},
        {"an output among inputs", [](Draft& d) { d.program().inputs[0].role = Role::logits; },
         "input port 0: unknown role 4"},
        {"same role", [](Draft& d) { d.program().inputs[1].role = Role::token_ids; },
         "input port 1: a second port"},
        {"same value", [](Draft& d) { d.program().inputs[1].value = 0; },
         "input port 1: value 0 is already defined"},
        {"no value", [](Draft& d) { d.program().inputs[1].value = 4000; },
         "input port 1: value 4000 does not exist"},
        {"wrong type", [](Draft& d) { d.program().values[0].dtype = M4_DTYPE_F32; },
         "input port 0: f32[tokens] instead of u32[tokens]"},
        {"wrong symbol", [](Draft& d) { d.program().values[0].dims[0].symbol = Symbol::outputs; },
         "input port 0: u32[outputs] instead of u32[tokens]"},
        {"wrong factor", [](Draft& d) { d.program().values[0].dims[0].factor = 2; },
         "input port 0: u32[2 tokens] instead of u32[tokens]"},
        {"missing input",
         [](Draft& d) { d.program().inputs.erase(d.program().inputs.begin() + 2); },
         "no output_rows input"},
        {"embedded rows of words", [](Draft& d) { d.value_of(0).dtype = M4_DTYPE_U32; },
         "input port 3: u32[tokens, 64] is no F32 matrix of tokens"},
        {"embedded rows of a norm",
         [](Draft& d) { d.program().inputs.back().value = d.op(1).outputs[0]; },
         "embedded_rows are not what gather_rows makes of token_ids"},
        {"missing output", [](Draft& d) { d.program().outputs.clear(); }, "no logits output"},
        {"output role", [](Draft& d) { d.program().outputs[0].role = Role::positions; },
         "output port 0: unknown role 2"},
        {"output value", [](Draft& d) { d.program().outputs[0].value = 4000; },
         "output port 0: value 4000 does not exist"},
        {"output shape", [](Draft& d) { d.program().outputs[0].value = 3; },
         "output port 0: f32[tokens, 64] instead of f32[outputs, 300]"},
        {"two outputs", [](Draft& d) { d.program().outputs.push_back(d.program().outputs[0]); },
         "output port 1: a second port"},
    };
    check_cases(kCases);
}

TEST_CASE("definition before use, and once") {
    constexpr Case kCases[] = {
        {"forward reference", [](Draft& d) { d.op(1).inputs[0].index = d.op(10).outputs[0]; },
         "op 1 (rms_norm): input 0: value 12 is not defined before its use"},
        {"itself", [](Draft& d) { d.op(10).inputs[1].index = d.op(10).outputs[0]; },
         "op 10 (add): input 1: value 12 is not defined"},
        {"defined twice", [](Draft& d) { d.op(17).outputs[0] = d.op(10).outputs[0]; },
         "op 17 (add): output 0: value 12 is already defined"},
        {"over an input port",
         [](Draft& d) {
             d.program().values[0] = d.program().values[3];
             d.program().values[0].dtype = M4_DTYPE_F32;
             d.op(0).outputs[0] = 0;
         },
         "instead of u32[tokens]"},
        {"no such value", [](Draft& d) { d.op(1).inputs[0].index = 70'000; },
         "op 1 (rms_norm): input 0: value 70000 does not exist"},
        {"no such output", [](Draft& d) { d.op(1).outputs[0] = 70'000; },
         "op 1 (rms_norm): output 0: value 70000 does not exist"},
        {"no such tensor", [](Draft& d) { d.op(1).inputs[1].index = 70'000; },
         "op 1 (rms_norm): input 1: tensor 70000 does not exist"},
        {"no such state", [](Draft& d) { d.op(7).inputs[0].index = 2; },
         "op 7 (kv_write): input 0: state 2 does not exist"},
        {"written twice", [](Draft& d) { d.op(24).inputs[0].index = 0; },
         "op 24 (kv_write): input 0: state 0 is written twice"},
        {"read before written", [](Draft& d) { d.op(8).inputs[1].index = 1; },
         "op 8 (attention): input 1: state 1 is read before it is written"},
        {"not written", [](Draft& d) { d.program().ops.erase(d.program().ops.begin() + 7); },
         "op 7 (attention): input 1: state 0 is read before it is written"},
    };
    check_cases(kCases);
}

TEST_CASE("arity, kinds of operands and attributes") {
    constexpr Case kCases[] = {
        {"unknown operator", [](Draft& d) { d.op(4).code = static_cast<OpCode>(77); },
         "part backbone: forward: op 4: unknown operator code 77"},
        {"too few inputs", [](Draft& d) { d.op(4).inputs.pop_back(); },
         "op 4 (linear): 2 inputs instead of 3"},
        {"too many inputs", [](Draft& d) { d.op(10).inputs.emplace_back(); },
         "op 10 (add): 3 inputs instead of 2"},
        {"no output", [](Draft& d) { d.op(4).outputs.clear(); },
         "op 4 (linear): 0 outputs instead of 1"},
        {"an output too many", [](Draft& d) { d.op(7).outputs.push_back(3); },
         "op 7 (kv_write): 1 outputs instead of 0"},
        {"empty slot", [](Draft& d) { d.op(4).inputs[1] = {}; },
         "op 4 (linear): input 1: is empty"},
        {"empty with index", [](Draft& d) { d.op(12).inputs[2].index = 1; },
         "op 12 (linear): input 2: is empty but has index 1"},
        {"value for tensor",
         [](Draft& d) {
             d.op(4).inputs[1] = {OperandKind::value, 3};
         },
         "op 4 (linear): input 1: is not a tensor"},
        {"tensor for value",
         [](Draft& d) {
             d.op(4).inputs[0] = {OperandKind::tensor, 3};
         },
         "op 4 (linear): input 0: is not a value"},
        {"value for state",
         [](Draft& d) {
             d.op(7).inputs[0] = {OperandKind::value, 3};
         },
         "op 7 (kv_write): input 0: is not a state"},
        {"state for either",
         [](Draft& d) {
             d.op(0).inputs[0] = {OperandKind::state, 0};
         },
         "input 0: is not a value or a tensor"},
        {"unknown kind", [](Draft& d) { d.op(4).inputs[0].kind = static_cast<OperandKind>(9); },
         "op 4 (linear): input 0: is not a value"},
        {"zero eps", [](Draft& d) { d.set_real(1, AttrId::eps, 0.0); },
         "op 1 (rms_norm): attribute eps"},
        {"eps not a number",
         [](Draft& d) { d.set_real(1, AttrId::eps, std::numeric_limits<double>::quiet_NaN()); },
         "op 1 (rms_norm): attribute eps"},
        {"infinite scale",
         [](Draft& d) { d.set_real(8, AttrId::scale, std::numeric_limits<double>::infinity()); },
         "op 8 (attention): attribute scale"},
        {"negative heads", [](Draft& d) { d.set(5, AttrId::heads, -4); },
         "op 5 (rope): attribute heads: -4 is not 1 to 2^31"},
        {"huge heads", [](Draft& d) { d.set(8, AttrId::heads, INT64_MAX); },
         "op 8 (attention): attribute heads"},
        {"heads of groups",
         [](Draft& d) {
             d.program().states[0] = {3, 16};
         },
         "op 7 (kv_write): input 1: f32[tokens, 32] is not kv_heads times head_dim = 48"},
        {"fine rows", [](Draft& d) { d.set(5, AttrId::fine_rows, 15); },
         "op 5 (rope): attribute fine_rows: 15 is not a power of two"},
        {"function", [](Draft& d) { d.set(14, AttrId::function, 7); },
         "op 14 (activation): attribute function: 7 is not a function"},
        {"a gate of another function", [](Draft& d) { d.set(14, AttrId::function, 2); },
         "fusion 1: the group has another activation than SiLU"},
    };
    check_cases(kCases);

    // Set but not the operator's: a blob cannot carry it, structs can.
    Draft draft;
    draft.set(10, AttrId::heads, 4);
    CHECK(contains(refusal([&] { verify_package(draft.package, draft.tensors); }),
                   "op 10 (add): attribute 2 is not one of this operator's"));
}

TEST_CASE("gather_rows and rms_norm") {
    constexpr Case kCases[] = {
        {"rows not a vector",
         [](Draft& d) {
             d.op(0).inputs[1].index = 0;
             d.op(35).inputs[1].index = 3;
         },
         "op 35 (gather_rows): input 1: f32[tokens, 64] is not a u32 vector"},
        {"plain tensor", [](Draft& d) { d.tensor("embedding").layout = M4_LAYOUT_PLAIN; },
         "input 0: tensor 'embedding' is not a ROWS16 matrix"},
        {"bytes", [](Draft& d) { d.tensor("embedding").dtype = M4_DTYPE_U8; },
         "input 0: tensor 'embedding' is not F32, F16, Q8 or Q4"},
        {"fewer rows than ids", [](Draft& d) { d.tensor("embedding").shape[0] = 299; },
         "input 0: tensor 'embedding' has 299 rows; input 1 may name 300"},
        {"fewer rows than positions",
         [](Draft& d) {
             d.op(0).inputs[1].index = 1;
             d.part().context_length = 301;
         },
         "input 0: tensor 'embedding' has 300 rows; input 1 may name 301"},
        {"tensor by output rows", [](Draft& d) { d.op(0).inputs[1].index = 2; },
         "input 1: rows of a tensor are chosen by"},
        {"value by token ids", [](Draft& d) { d.op(35).inputs[1].index = 0; },
         "op 35 (gather_rows): input 1: rows of a value are chosen by the output_rows"},
        {"value of outputs",
         [](Draft& d) {
             Op again = d.op(35);
             again.inputs[0].index = d.op(35).outputs[0];
             again.outputs[0] = static_cast<std::uint32_t>(d.program().values.size());
             d.program().values.push_back(d.value_of(35));
             d.program().ops.insert(d.program().ops.begin() + 36, again);
         },
         "op 36 (gather_rows): input 0: f32[outputs, 64] has not one row a token"},
        {"result width", [](Draft& d) { d.value_of(0).dims[1].factor = 65; },
         "output 0: value 3 is f32[tokens, 65] but the operator gives f32[tokens, 64]"},
        {"result type",
         [](Draft& d) {
             d.program().inputs.pop_back();  // embedded_rows, of the same value
             d.value_of(0).dtype = M4_DTYPE_U32;
         },
         "output 0: value 3 is u32[tokens, 64] but"},
        {"norm of ids", [](Draft& d) { d.op(1).inputs[0].index = 0; },
         "op 1 (rms_norm): input 0: u32[tokens] is not an F32 matrix"},
        {"norm weight length", [](Draft& d) { d.tensor("layer.0.attention_norm").shape[0] = 63; },
         "op 1 (rms_norm): input 1: tensor 'layer.0.attention_norm' has 63 elements instead of 64"},
        {"norm weight type",
         [](Draft& d) { d.tensor("layer.0.attention_norm").dtype = M4_DTYPE_F16; },
         "is not plain F32 of rank 1"},
        {"norm weight rank", [](Draft& d) { d.tensor("layer.0.attention_norm").rank = 2; },
         "is not plain F32 of rank 1"},
        {"norm result", [](Draft& d) { d.value_of(1).dims[0].symbol = Symbol::outputs; },
         "op 1 (rms_norm): output 0: value 4 is f32[outputs, 64] but"},
    };
    CHECK(kGather == std::string("part backbone: forward: op 0 (gather_rows)"));
    check_cases(kCases);
}

TEST_CASE("linear, add, mul and activation") {
    constexpr Case kCases[] = {
        {"weight columns", [](Draft& d) { d.tensor("layer.0.q.weight").shape[1] = 60; },
         "op 2 (linear): input 1: tensor 'layer.0.q.weight' has 60 columns instead of 64"},
        {"weight layout", [](Draft& d) { d.tensor("layer.0.q.weight").layout = M4_LAYOUT_PLAIN; },
         "op 2 (linear): input 1: tensor 'layer.0.q.weight' is not a ROWS16 matrix"},
        {"weight order",
         [](Draft& d) { d.tensor("layer.0.q.weight").row_order = M4_ROW_ORDER_HALF_SPLIT; },
         "op 2 (linear): input 1: tensor 'layer.0.q.weight' has half-split rows"},
        {"bias length", [](Draft& d) { d.tensor("layer.0.q.bias").shape[0] = 63; },
         "op 2 (linear): input 2: tensor 'layer.0.q.bias' has 63 elements instead of 64"},
        {"bias type", [](Draft& d) { d.tensor("layer.0.q.bias").dtype = M4_DTYPE_F16; },
         "op 2 (linear): input 2: tensor 'layer.0.q.bias' is not plain F32"},
        {"linear result", [](Draft& d) { d.value_of(12).dims[1].factor = 95; },
         "op 12 (linear): output 0: value 14 is f32[tokens, 95] but"},
        {"x of ids", [](Draft& d) { d.op(2).inputs[0].index = 1; },
         "op 2 (linear): input 0: u32[tokens] is not an F32 matrix"},
        {"add of widths", [](Draft& d) { d.op(10).inputs[1].index = d.op(3).outputs[0]; },
         "op 10 (add): input 1: f32[tokens, 32] is not f32[tokens, 64] as input 0 is"},
        {"add of rows",
         [](Draft& d) {
             Op extra = d.op(10);
             extra.inputs[1].index = d.op(35).outputs[0];
             extra.outputs[0] = static_cast<std::uint32_t>(d.program().values.size());
             d.program().values.push_back(d.value_of(10));
             d.program().ops.insert(d.program().ops.begin() + 36, extra);
         },
         "op 36 (add): input 1: f32[outputs, 64] is not f32[tokens, 64]"},
        {"mul of ids", [](Draft& d) { d.op(15).inputs[1].index = 1; },
         "op 15 (mul): input 1: u32[tokens] is not an F32 matrix"},
        {"mul result", [](Draft& d) { d.value_of(15).dims[1].factor = 97; },
         "op 15 (mul): output 0:"},
        {"activation of ids", [](Draft& d) { d.op(14).inputs[0].index = 1; },
         "op 14 (activation): input 0: u32[tokens] is not an F32 matrix"},
        {"activation result", [](Draft& d) { d.value_of(14).dims[1].factor = 97; },
         "op 14 (activation): output 0:"},
    };
    check_cases(kCases);
}

TEST_CASE("rope, kv_write and attention") {
    constexpr Case kCases[] = {
        {"heads times head_dim", [](Draft& d) { d.set(5, AttrId::heads, 3); },
         "op 5 (rope): input 0: f32[tokens, 64] is not heads times head_dim wide"},
        {"positions of another kind", [](Draft& d) { d.op(5).inputs[1].index = 0; },
         "op 5 (rope): input 1: is not the positions input"},
        {"table type", [](Draft& d) { d.tensor("rope_table").dtype = M4_DTYPE_F16; },
         "op 5 (rope): input 2: tensor 'rope_table' is not plain F32 of rank 2"},
        {"table odd", [](Draft& d) { d.tensor("rope_table").shape[1] = 15; },
         "rotates 15 of 16 dimensions"},
        {"table wide", [](Draft& d) { d.tensor("rope_table").shape[1] = 18; },
         "rotates 18 of 16 dimensions"},
        {"table short", [](Draft& d) { d.tensor("rope_table").shape[0] = 23; },
         "23 rows, 16 of them fine, covers less than context 128"},
        {"table without coarse rows", [](Draft& d) { d.set(5, AttrId::fine_rows, 64); },
         "op 5 (rope): input 2:"},
        {"rope result", [](Draft& d) { d.value_of(5).dims[1].factor = 32; },
         "op 5 (rope): output 0:"},
        {"values unlike keys", [](Draft& d) { d.op(7).inputs[2].index = d.op(2).outputs[0]; },
         "op 7 (kv_write): input 2: f32[tokens, 64] is not f32[tokens, 32] as the keys"},
        {"keys of ids", [](Draft& d) { d.op(7).inputs[1].index = 0; },
         "op 7 (kv_write): input 1: u32[tokens] is not an F32 matrix"},
        {"write positions", [](Draft& d) { d.op(7).inputs[3].index = 2; },
         "op 7 (kv_write): input 3: is not the positions input"},
        {"query width", [](Draft& d) { d.op(8).inputs[0].index = d.op(3).outputs[0]; },
         "op 8 (attention): input 0: f32[tokens, 32] is not heads times head_dim = 64 wide"},
        {"no multiple",
         [](Draft& d) {
             d.program().states[0] = {1, 32};
             d.set(8, AttrId::heads, 2);
             d.program().states[0].kv_heads = 1;
             d.program().states[1] = {1, 32};
             d.set(25, AttrId::heads, 3);
         },
         "op 25 (attention): input 0:"},
        {"attention positions", [](Draft& d) { d.op(8).inputs[2].index = 0; },
         "op 8 (attention): input 2: is not the positions input"},
        {"attention result", [](Draft& d) { d.value_of(8).dims[1].factor = 32; },
         "op 8 (attention): output 0:"},
        {"rows of outputs",
         [](Draft& d) {
             Op late = d.op(5);
             late.inputs[0].index = d.op(35).outputs[0];
             late.outputs[0] = static_cast<std::uint32_t>(d.program().values.size());
             d.program().values.push_back(d.value_of(35));
             d.program().ops.insert(d.program().ops.begin() + 36, late);
         },
         "op 36 (rope): input 1: u32[tokens] has not one position a row"},
    };
    check_cases(kCases);

    // Three query heads over two KV heads.
    Draft draft;
    draft.program().states[0] = {2, 16};
    Op query = draft.op(2);
    CHECK(query.code == OpCode::linear);
    draft.tensor("layer.0.q.weight").shape[0] = 48;
    draft.tensor("layer.0.q.bias").shape[0] = 48;
    draft.value_of(2).dims[1].factor = 48;
    draft.set(5, AttrId::heads, 3);
    draft.value_of(5).dims[1].factor = 48;
    draft.set(8, AttrId::heads, 3);
    draft.value_of(8).dims[1].factor = 48;
    CHECK(refusal([&] { verify_package(draft.package, draft.tensors); }) ==
          "part backbone: forward: op 8 (attention): attribute heads: 3 is no multiple of 2 KV "
          "heads");
}

namespace {

/// The sample has biases at q, k and v; groups as of a plain LLaMA.
void drop_biases(Draft& draft) {
    for (const std::size_t first : {0U, 17U}) {
        for (const std::size_t linear : {2U, 3U, 4U}) {
            draft.op(first + linear).inputs[2] = {};
        }
    }
    draft.program().fusions = find_fusions(draft.program());
}

}  // namespace

TEST_CASE("fusions") {
    constexpr Case kCases[] = {
        {"unknown kind", [](Draft& d) { d.program().fusions[0].kind = static_cast<FusionKind>(9); },
         "forward: fusion 0: unknown kind 9"},
        {"no kind", [](Draft& d) { d.program().fusions[0].kind = FusionKind{}; },
         "fusion 0: unknown kind 0"},
        {"empty", [](Draft& d) { d.program().fusions[0].count = 0; },
         "operators 1 and 0 on are no group"},
        {"past the end",
         [](Draft& d) {
             d.program().fusions.back() = {FusionKind::projection, 37, 2};
         },
         "operators 37 and 2 on are no group"},
        {"far past the end",
         [](Draft& d) {
             d.program().fusions.back() = {FusionKind::projection, 0xFFFFFFFF, 8};
         },
         "operators 4294967295 and 8 on are no group"},
        {"overlap",
         [](Draft& d) {
             d.program().fusions.insert(d.program().fusions.begin(), d.program().fusions[0]);
         },
         "fusion 1: begins before the end"},
        {"out of order",
         [](Draft& d) { std::swap(d.program().fusions[0], d.program().fusions[1]); },
         "fusion 1: begins before the end"},
        {"not its kind", [](Draft& d) { d.program().fusions[0].kind = FusionKind::residual; },
         "the group does not begin with a linear"},
        {"another kind", [](Draft& d) { d.program().fusions[1].kind = FusionKind::gated; },
         "the group does not begin with a norm"},
        {"too long", [](Draft& d) { d.program().fusions[0].count = 8; },
         "the group goes on behind its end"},
        {"norm alone", [](Draft& d) { d.program().fusions[0].count = 1; },
         "the group has no linear behind its norm"},
        {"a projection is no gate",
         [](Draft& d) {
             d.program().fusions[0] = {FusionKind::gated, 1, 5};
         },
         "the group lacks an operator"},
        {"a value on the way is used elsewhere",
         [](Draft& d) {
             // the output projection takes q as it was before its rope
             d.op(9).inputs[0].index = d.op(2).outputs[0];
         },
         "the group computes a value on the way that is used elsewhere, too"},
        {"a stored value is used elsewhere",
         [](Draft& d) {
             // the second layer stores the keys of the first
             d.op(24).inputs[1].index = d.op(6).outputs[0];
         },
         "fusion 0: the group computes a value on the way that is used elsewhere, too"},
        {"two ways to turn", [](Draft& d) { d.set(6, AttrId::fine_rows, 8); },
         "fusion 0: the group turns its values in different ways"},
        {"residual of itself",
         [](Draft& d) {
             d.op(10).inputs = {d.op(10).inputs[1], d.op(10).inputs[1]};
         },
         "fusion 1: the group joins other values"},
    };
    check_cases(kCases, drop_biases);
}

TEST_CASE("fusions: the packer's are those of a LLaMA, and no more") {
    Draft draft;
    const std::size_t with_biases = draft.program().fusions.size();
    drop_biases(draft);
    const Program& program = draft.program();
    const std::vector<Fusion> layer = {{FusionKind::projection, 1, 7},
                                       {FusionKind::residual, 9, 2},
                                       {FusionKind::gated, 11, 5},
                                       {FusionKind::residual, 16, 2}};
    std::vector<Fusion> expected;
    for (const std::uint32_t first : {0U, 17U}) {
        for (Fusion fusion : layer) {
            fusion.first += first;
            expected.push_back(fusion);
        }
    }
    expected.push_back({FusionKind::projection, 36, 2});
    CHECK(program.fusions == expected);
    CHECK(with_biases == expected.size() - 2);
    CHECK(refusal([&] { verify_package(draft.package, draft.tensors); }) == "accepted");
    Program none;
    CHECK(find_fusions(none).empty());
}
