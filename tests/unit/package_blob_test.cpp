// SPDX-License-Identifier: MIT
// Program blobs as an attacker writes them: what structs cannot express.
#include <doctest/doctest.h>
#include <program_generated.h>

#include <random>

#include "image_samples.hpp"
#include "lib/operators.hpp"
#include "lib/verify.hpp"
#include "package_sample.hpp"

using namespace m4::firmware;
using namespace m4::test;

namespace {

using Buffer = flatbuffers::FlatBufferBuilder;

std::vector<std::byte> finish(Buffer& buffer, flatbuffers::Offset<m4::fb::Part> part) {
    const auto parts = buffer.CreateVector(std::vector{part});
    m4::fb::FinishPackageBuffer(buffer, m4::fb::CreatePackage(buffer, parts));
    const auto bytes = std::as_bytes(std::span(buffer.GetBufferPointer(), buffer.GetSize()));
    return {bytes.begin(), bytes.end()};
}

/// A blob of one operator and nothing else; enough for the decoder's checks.
std::vector<std::byte> blob_of_op(OpCode code, const std::vector<m4::fb::Attr>& attributes,
                                  std::size_t digest_bytes = 32, std::uint8_t state_kind = 1) {
    const OpInfo* info = find_op(static_cast<std::uint16_t>(code));
    Buffer buffer;
    const std::vector<m4::fb::Operand> operands(info->inputs.size());
    const std::vector<std::uint32_t> results(info->output_count);
    const auto inputs = buffer.CreateVectorOfStructs(operands);
    const auto outputs = buffer.CreateVector(results);
    const auto attrs = buffer.CreateVectorOfStructs(attributes);
    const auto op =
        m4::fb::CreateOp(buffer, static_cast<std::uint16_t>(code), inputs, outputs, attrs);
    const auto state =
        m4::fb::CreateState(buffer, static_cast<m4::fb::StateKind>(state_kind), 1, 2);
    const auto ops = buffer.CreateVector(std::vector{op});
    const auto states = buffer.CreateVector(std::vector{state});
    const auto name = buffer.CreateString("forward");
    const auto program = m4::fb::CreateProgram(buffer, name, 0, 0, 0, states, ops);
    const auto programs = buffer.CreateVector(std::vector{program});
    const auto part_name = buffer.CreateString("backbone");
    const auto digest = buffer.CreateVector(std::vector<std::uint8_t>(digest_bytes));
    return finish(buffer, m4::fb::CreatePart(buffer, part_name, m4::fb::PartKind::backbone, 0,
                                             digest, 0, 1, 1, 0, programs));
}

std::string blob_refusal(std::span<const std::byte> blob) {
    return refusal([&] { verify_package(blob, sample().tensors); });
}

}  // namespace

TEST_CASE("what only a blob can get wrong") {
    using m4::fb::Attr;
    const Attr heads(2, 4, 0.0);
    const Attr dim(4, 16, 0.0);
    const Attr fine(7, 16, 0.0);
    const auto rope = [](const std::vector<Attr>& attributes) {
        return blob_refusal(blob_of_op(OpCode::rope, attributes));
    };
    const std::string place = "part backbone: forward: op 0 (rope): ";
    CHECK(rope({heads, dim}) == place + "attribute fine_rows is missing");
    CHECK(rope({heads, dim, fine, heads}) == place + "attribute heads is given twice");
    CHECK(rope({heads, dim, fine, Attr(1, 0, 1.0)}) ==
          place + "attribute eps is not one of this operator's");
    CHECK(rope({heads, dim, Attr(99, 1, 0.0)}) == place + "unknown attribute 99");
    CHECK(rope({heads, dim, Attr(7, 16, 1.0)}) ==
          place + "attribute fine_rows has a value of the wrong kind");
    CHECK(contains(rope(std::vector<Attr>(18, heads)), "18 attributes, more than 17"));
    CHECK(blob_refusal(blob_of_op(OpCode::add, {}, 31)) ==
          "part backbone: source digest of 31 bytes instead of 32");
    CHECK(blob_refusal(blob_of_op(OpCode::add, {}, 32, 3)) ==
          "part backbone: forward: state 0: unknown kind 3");
    // Memory is a decoder's.
    CHECK(blob_refusal(blob_of_op(OpCode::add, {}, 32, 2)) ==
          "part backbone: forward: state 0: kind 2 is not one of this part's");
}

TEST_CASE("bytes that are no package are refused, and none of them is trusted") {
    const std::string no_package = "program blob: not a well-formed package";
    CHECK(blob_refusal({}) == no_package);
    CHECK(blob_refusal(std::vector<std::byte>(7)) == no_package);
    CHECK(blob_refusal(std::vector<std::byte>(4096)) == no_package);
    CHECK(contains(blob_refusal(std::vector<std::byte>((2U << 20U) + 1)), "more than 2 MiB"));
    const auto blob = encode_package(sample().package());
    for (std::size_t size = 0; size < blob.size(); size += 1 + size / 64) {
        CHECK(blob_refusal(std::span(blob).first(size)) != "accepted");
    }
    // Any single damage is refused with a place or changes what is said, but
    // never reads outside the blob (the sanitizer build watches).
    std::mt19937 random(1);
    for (std::size_t i = 0; i < 4 * blob.size(); ++i) {
        auto damaged = blob;
        damaged[i / 4] ^= std::byte{static_cast<unsigned char>(1U << random() % 8)};
        const std::string text = blob_refusal(damaged);
        CAPTURE(text);
        REQUIRE((text == "accepted" || contains(text, ": ")));
    }
    for (std::size_t i = 0; i < 2000; ++i) {
        auto damaged = blob;
        for (std::size_t k = 0; k < 1 + i % 16; ++k) {
            damaged[random() % damaged.size()] = static_cast<std::byte>(random());
        }
        static_cast<void>(blob_refusal(damaged));
    }
}

TEST_CASE("a blob that names one table many times does not grow without bound") {
    // 65,536 references to one operator of one program, in 16 programs of 256
    // parts: 2 MiB would become gigabytes of structs.
    Buffer buffer;
    const auto op = m4::fb::CreateOp(buffer, static_cast<std::uint16_t>(OpCode::add), 0, 0, 0);
    const auto ops = buffer.CreateVector(std::vector(65'536, op));
    const auto name = buffer.CreateString("forward");
    const auto program = m4::fb::CreateProgram(buffer, name, 0, 0, 0, 0, ops);
    const auto programs = buffer.CreateVector(std::vector(16, program));
    const auto part_name = buffer.CreateString("backbone");
    const auto digest = buffer.CreateVector(std::vector<std::uint8_t>(32));
    const auto part = m4::fb::CreatePart(buffer, part_name, m4::fb::PartKind::backbone, 0, digest,
                                         0, 1, 1, 0, programs);
    const auto parts = buffer.CreateVector(std::vector(256, part));
    m4::fb::FinishPackageBuffer(buffer, m4::fb::CreatePackage(buffer, parts));
    const auto bytes = std::as_bytes(std::span(buffer.GetBufferPointer(), buffer.GetSize()));
    CHECK(blob_refusal(bytes) == "program blob: not a well-formed package");
}

TEST_CASE("a recipe of a kind without a table is refused") {
    using m4::fb::Recipe;
    for (const Recipe kind :
         {Recipe::ImageRecipe, Recipe::AudioRecipe, Recipe::MotionRecipe, Recipe::TextRecipe}) {
        Buffer buffer;
        const auto name = buffer.CreateString("eye");
        const auto digest = buffer.CreateVector(std::vector<std::uint8_t>(32));
        const auto bytes =
            finish(buffer, m4::fb::CreatePart(buffer, name, m4::fb::PartKind::encoder, 0, digest, 0,
                                              0, 0, 0, 0, kind, 0));
        CHECK(blob_refusal(bytes) == "part eye: recipe: is of a kind and has no table");
    }
}
