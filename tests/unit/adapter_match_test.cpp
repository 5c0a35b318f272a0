// SPDX-License-Identifier: MIT
// Which part an adapter is for, which of its pairs fit, and whether it does anything.
#include <doctest/doctest.h>

#include <cmath>

#include "adapter_samples.hpp"
#include "adapters/effect.hpp"
#include "adapters/match.hpp"
#include "image_samples.hpp"
#include "lib/verify.hpp"
#include "package_sample.hpp"

namespace m4::firmware {

namespace {

using test::AdapterSample;
using test::contains;
using test::sample;

/// An encoder that gives what heads take; it has no tensors.
Part encoder(const char* name, std::uint32_t width, std::uint8_t digest) {
    Program program;
    program.name = "encode";
    program.values = {{M4_DTYPE_F32, {{4, Symbol::items}, {width, Symbol::none}}},
                      {M4_DTYPE_F32, {{1, Symbol::items}, {width, Symbol::none}}}};
    program.inputs = {{Role::features, 0}};
    program.outputs = {{Role::embedding, 1}, {Role::hidden, 0}};
    Op op;
    op.code = OpCode::mean_rows;
    op.inputs = {{OperandKind::value, 0}};
    op.outputs = {1};
    program.ops.push_back(op);
    Part part;
    part.name = name;
    part.kind = PartKind::encoder;
    part.source_digest.fill(digest);
    part.programs.push_back(std::move(program));
    return part;
}

/// The tiny backbone, of a digest of its own, and two encoders.
Package package() {
    Package out = sample().package();
    out.parts[0].source_digest.fill(5);
    out.parts.push_back(encoder("eye", 24, 6));
    out.parts.push_back(encoder("ear", 16, 7));
    verify_package(out, sample().tensors);
    return out;
}

AdapterMatch match(const Adapter& adapter) {
    return match_adapter(adapter, package(), sample().tensors);
}

}  // namespace

TEST_CASE("adapter match: every pair finds its tensor, bound or not") {
    AdapterSample one;
    one.add("layer.0.q.weight", 64, 64, 4);
    one.add("layer.1.down.weight", 64, 96, 2).order = M4_ROW_ORDER_NONE;
    one.add("output", 300, 64, 8);
    for (const std::uint8_t digest : {std::uint8_t{0}, std::uint8_t{5}}) {
        one.adapter.base.fill(digest);
        const AdapterMatch found = match(one.adapter);
        CAPTURE(found.summary);
        CHECK(found.complete());
        CHECK(found.part == 0);
        CHECK(found.pairs[0].tensor == sample().tensor("layer.0.q.weight"));
        CHECK(found.pairs[2].tensor == sample().tensor("output"));
        CHECK(found.summary == "adapter sample: 3 of 3 pairs match part backbone");
    }
    CHECK(match_adapter(one.adapter, sample().mapped.image()).part == std::nullopt);
}

TEST_CASE("adapter match: another base is refused by digest") {
    AdapterSample one;
    one.add("layer.0.q.weight", 64, 64, 4);
    one.adapter.base.fill(0xAB);
    const AdapterMatch found = match(one.adapter);
    CHECK(!found.complete());
    CHECK(!found.part);
    CHECK(contains(found.summary, "for a base of source digest abababab"));
    CHECK(contains(found.summary, "backbone is 05050505"));
    CHECK(contains(found.summary, "eye is 06060606"));
    CHECK(found.pairs.size() == 1);
    CHECK(!found.pairs[0].tensor);
}

TEST_CASE("adapter match: what does not fit is named, and why") {
    AdapterSample one;
    one.add("layer.0.v.weight", 32, 64, 4);
    one.add("layer.9.v.weight", 32, 64, 4);
    one.add("layer.0.k.weight", 64, 64, 4);
    one.add("layer.0.q.weight", 64, 64, 4).order = M4_ROW_ORDER_NONE;
    one.add("embedding", 300, 64, 4);
    one.add("layer.0.q.bias", 64, 1, 1);
    const AdapterMatch found = match(one.adapter);
    CHECK(!found.complete());
    CHECK(found.part == 0);
    CHECK(found.matched == 1);
    CHECK(found.pairs[1].fault == "no such tensor");
    CHECK(contains(found.pairs[2].fault, "for shape [64, 64], the tensor's is [32, 64]"));
    CHECK(contains(found.pairs[3].fault, "rows are rotated"));
    CHECK(contains(found.pairs[4].fault, "weight of a linear"));
    CHECK(contains(found.pairs[5].fault, "no matrix"));
    CHECK(found.summary ==
          "adapter sample: 1 of 6 pairs match part backbone; pair "
          "'layer.9.v.weight': no such tensor; and 4 more");
}

TEST_CASE("adapter match: an unbound adapter of nothing here names its first pair") {
    AdapterSample one;
    one.add("transformer.h.0.attn.c_attn.weight", 2304, 768, 8);
    const AdapterMatch found = match(one.adapter);
    CHECK(!found.part);
    CHECK(contains(found.summary,
                   "no part has any of its 1 tensors: pair "
                   "'transformer.h.0.attn.c_attn.weight': no such tensor"));
}

TEST_CASE("adapter match: a head goes where its input comes from") {
    AdapterSample one;
    one.add_head(16, {"a", "b"});
    AdapterMatch found = match(one.adapter);
    CHECK(found.complete());
    CHECK(found.part == 2);
    one.adapter.base.fill(6);
    found = match(one.adapter);
    CHECK(!found.complete());
    CHECK(contains(found.summary, "the head takes embedding of [1, 16], part eye gives [1, 24]"));
    one.adapter.base.fill(5);
    CHECK(contains(match(one.adapter).summary, "part backbone gives none"));

    AdapterSample hidden;
    hidden.add_head(24, {"a", "b"}, Role::hidden);
    found = match(hidden.adapter);
    CHECK(!found.part);
    CHECK(contains(found.summary, "no part gives what its head takes, hidden of [1, 24]"));
    Package twins = package();
    twins.parts.push_back(encoder("nose", 16, 8));
    one.adapter.base.fill(0);
    found = match_adapter(one.adapter, twins, sample().tensors);
    CHECK(!found.part);
    CHECK(contains(found.summary, "its head fits 2 parts"));
}

TEST_CASE("adapter effect: norms are near the truth, and zero is seen") {
    AdapterSample one;
    one.add("layer.0.q.weight", 64, 64, 4);
    one.add("layer.0.v.weight", 32, 64, 3, M4_DTYPE_F16);
    // The truth, the long way.
    const auto& pair = one.adapter.pairs[0];
    const auto at = [](std::span<const std::byte> bytes, std::size_t index) {
        float value = 0;
        std::memcpy(&value, bytes.data() + index * sizeof(value), sizeof(value));
        return double{value};
    };
    double squares = 0;
    for (std::size_t r = 0; r < 64; ++r) {
        for (std::size_t c = 0; c < 64; ++c) {
            double sum = 0;
            for (std::size_t k = 0; k < 4; ++k) {
                sum += at(pair.b, r * 4 + k) * at(pair.a, k * 64 + c);
            }
            squares += sum * sum;
        }
    }
    const auto norms = delta_norms(one.adapter);
    REQUIRE(norms.size() == 2);
    const double ratio = norms[0] / (0.5 * std::sqrt(squares));
    CHECK(ratio > 0.5);
    CHECK(ratio < 2.0);
    CHECK(norms[1] > 0);
    CHECK(delta_norms(one.adapter) == norms);
    CHECK(effect_fault(one.adapter, match(one.adapter), norms).empty());
}

TEST_CASE("adapter effect: one that changes nothing is named") {
    AdapterSample one;
    auto& pair = one.add("layer.0.q.weight", 64, 64, 4);
    const auto b = pair.b;
    pair.b = one.keep(std::vector<std::byte>(b.size()));
    auto norms = delta_norms(one.adapter);
    CHECK(norms[0] == 0);
    const AdapterMatch found = match(one.adapter);
    CHECK(found.complete());
    CHECK(contains(effect_fault(one.adapter, found, norms),
                   "changes nothing: scale * b * a is zero in all 1 pairs that match, first in "
                   "'layer.0.q.weight'"));
    one.adapter.pairs[0].b = b;
    one.adapter.pairs[0].scale = 0;
    CHECK(delta_norms(one.adapter)[0] == 0);

    // Factors that cancel: a's rows are equal, b's columns opposite.
    one.adapter.pairs[0].scale = 1;
    std::vector<float> rows(256);
    std::vector<float> columns(256);
    for (std::size_t i = 0; i < 256; ++i) {
        rows[i] = 0.1F + static_cast<float>(i % 64);
        columns[i] = (i % 2 == 0 ? 0.3F : -0.3F) * static_cast<float>(i / 4 + 1);
    }
    one.adapter.pairs[0].a = one.keep(test::stored(rows, M4_DTYPE_F32));
    one.adapter.pairs[0].b = one.keep(test::stored(columns, M4_DTYPE_F32));
    CHECK(delta_norms(one.adapter)[0] == 0);

    // A pair that acts but does not match does not count.
    one.add("layer.9.q.weight", 64, 64, 4);
    norms = delta_norms(one.adapter);
    CHECK(norms[1] > 0);
    CHECK(contains(effect_fault(one.adapter, match(one.adapter), norms), "changes nothing"));
}

}  // namespace m4::firmware
