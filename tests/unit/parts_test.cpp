// SPDX-License-Identifier: MIT
// Which part is meant, and what of a request is refused before anything is prepared.
#include <doctest/doctest.h>
#include <m4client.h>

#include <cstring>
#include <string>
#include <vector>

#include "sched/parts.hpp"

using namespace m4;
using sched::EncodeInputs;
using sched::EncodeOutput;
using sched::MediaInput;
using sched::Refusal;

namespace {

firmware::Part encoder(const char* name, firmware::FeatureShape features,
                       firmware::FeatureShape hidden) {
    using firmware::Role;
    firmware::Program program;
    program.name = "encode";
    const auto port = [&](std::vector<firmware::Port>& ports, Role role,
                          firmware::FeatureShape shape) {
        ports.push_back({role, static_cast<std::uint32_t>(program.values.size())});
        program.values.push_back(
            {M4_DTYPE_F32, {{shape.rows, firmware::Symbol::items}, {shape.columns}}});
    };
    port(program.inputs, Role::features, features);
    port(program.outputs, Role::hidden, hidden);
    firmware::Part part;
    part.name = name;
    part.kind = firmware::PartKind::encoder;
    part.programs.push_back(program);
    return part;
}

/// Inputs of 2 x 3 features each, one behind the other.
EncodeInputs inputs(std::size_t count, const std::string& part = {}) {
    EncodeInputs made;
    made.part = part;
    made.output = EncodeOutput::hidden;
    for (std::size_t i = 0; i < count; ++i) {
        MediaInput input;
        input.descriptor.kind = media::Kind::features_f32;
        input.descriptor.offset = i * 24;
        input.descriptor.channels = 3;
        input.descriptor.samples = 2;
        input.bytes = 24;
        made.inputs.push_back(input);
    }
    return made;
}

int refused(const sched::Parts& parts, const EncodeInputs& what, std::size_t bytes,
            const std::string& words) {
    const std::vector<std::byte> data(bytes);
    try {
        (void)parts.prepare(what, data, 1, std::make_shared<sched::EmbeddingCache>());
    } catch (const Refusal& refusal) {
        CAPTURE(std::string(refusal.what()));
        CHECK(std::string(refusal.what()).find(words) != std::string::npos);
        return refusal.code();
    }
    return 0;
}

}  // namespace

TEST_CASE("parts: features go where they fit, by their shape") {
    const firmware::Package package{
        {encoder("small", {4, 3}, {1, 5}), encoder("fits", {2, 3}, {1, 5})}};
    const sched::Parts parts(package, {});
    const std::vector<std::byte> data(48);
    const auto cache = std::make_shared<sched::EmbeddingCache>();
    const sched::Encode encode = parts.prepare(inputs(2), data, 1, cache);
    CHECK(encode.part == 1);
    CHECK(encode.part_name == "fits");
    CHECK(encode.items == std::vector<std::uint32_t>{1, 1});
    CHECK(encode.features.size() == 12);
    // Twice its rows are two items of one input.
    EncodeInputs two = inputs(1, "fits");
    two.inputs[0].descriptor.samples = 4;
    two.inputs[0].bytes = 48;
    CHECK(parts.prepare(two, data, 1, cache).items == std::vector<std::uint32_t>{2});
}

TEST_CASE("parts: what lies outside the data, or beyond an input's own bytes, is not read") {
    const firmware::Package package{{encoder("fits", {2, 3}, {1, 5})}};
    const sched::Parts parts(package, {});
    CHECK(refused(parts, inputs(2), 47, "input 1: 24 bytes from 24 on") == M4_E_INVALID);
    EncodeInputs what = inputs(1);
    what.inputs[0].bytes = 23;
    CHECK(refused(parts, what, 48, "") == M4_E_INVALID);
    what = inputs(1);
    what.inputs[0].descriptor.offset = UINT64_MAX;
    CHECK(refused(parts, what, 48, "not within") == M4_E_INVALID);
    what.inputs[0].bytes = UINT64_MAX;
    CHECK(refused(parts, what, 48, "not within") == M4_E_INVALID);
    CHECK(refused(parts, EncodeInputs{}, 48, "nothing") == M4_E_INVALID);
}

TEST_CASE("parts: results that no reply could carry are refused before the work") {
    // 8 MiB an input.
    const firmware::Package package{{encoder("wide", {2, 3}, {2048, 1024})}};
    const sched::Parts parts(package, {});
    CHECK(refused(parts, inputs(9), 9 * 24, "8388608 bytes an input") == M4_E_TOO_LARGE);
    CHECK(refused(parts, inputs(8), 8 * 24, "") == 0);
}

TEST_CASE("results are kept for who sent the input, the oldest going first") {
    sched::EmbeddingCache cache;
    const auto key = [](std::uint8_t number) {
        sched::InputKey made{};
        made[0] = number;
        return made;
    };
    cache.keep(1, key(0), {1.0F});  // nobody knows this client
    CHECK(cache.find(1, key(0)) == nullptr);
    cache.remember(1);
    cache.remember(2);
    cache.keep(1, key(0), {1.0F, 2.0F});
    REQUIRE(cache.find(1, key(0)) != nullptr);
    CHECK(*cache.find(1, key(0)) == std::vector<float>{1.0F, 2.0F});
    CHECK(cache.find(2, key(0)) == nullptr);
    // Five of just under a quarter of the room; the first is asked for meanwhile.
    const std::vector<float> large(sched::EmbeddingCache::kBytesAClient / 4 / sizeof(float) - 100);
    for (std::uint8_t i = 1; i <= 5; ++i) {
        cache.keep(1, key(i), large);
        CHECK(cache.find(1, key(0)) != nullptr);
    }
    CHECK(cache.find(1, key(1)) == nullptr);
    CHECK(cache.find(1, key(5)) != nullptr);
    cache.keep(1, key(9), std::vector<float>(sched::EmbeddingCache::kBytesAClient / 4));
    CHECK(cache.find(1, key(9)) == nullptr);
    cache.forget(1);
    CHECK(cache.find(1, key(5)) == nullptr);
}
