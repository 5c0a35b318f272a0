// SPDX-License-Identifier: MIT
// A decoder that looks at an encoder's rows: against a plain computation of random
// ones, and of the reference data.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <random>
#include <stdexcept>

#include "checkpoint_writer.hpp"
#include "engine/model.hpp"
#include "gpu.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "plain_whisper.hpp"
#include "senses.hpp"

namespace m4::test {

namespace {

using engine::Chunk;
using engine::Engine;
using engine::Logits;
using engine::Sequence;
using Tokens = std::vector<std::uint32_t>;

constexpr std::uint32_t kSeed = 5;
constexpr std::size_t kPart = 1;

engine::Options options_of(engine::KvType type = engine::KvType::f32) {
    return {.device = test_device(),
            .kv_type = type,
            .kv_page_positions = 16,
            .max_step_rows = 24,
            .validation = true};
}

/// A Whisper's image, stored as F32, and what runs it.
struct Speech {
    TempFolder folder;
    firmware::MappedImage mapped;
    engine::Model model;

    explicit Speech(const std::filesystem::path& file,
                    const engine::Options& options = options_of())
        : mapped([&] {
              firmware::ImageBuilder builder("speech", "test", 0);
              firmware::import_model({.from = file, .stored = M4_DTYPE_F32}, builder);
              builder.write(folder / "image", false);
              return firmware::MappedImage::open_folder(folder / "image");
          }()),
          model(mapped, options) {}

    [[nodiscard]] Engine& decoder() { return model.decoder(kPart); }
};

/// A random one's checkpoint, and rows as its encoder might give.
struct Random {
    WhisperDims dims;
    PlainTensors tensors = random_whisper(dims, kSeed);
    TempFolder folder;
    Rows hidden;
    std::vector<float> floats;

    Random() {
        write_file(folder / "config.json", whisper_config(dims));
        write_file(folder / "model.safetensors", safetensors_bytes(tensors.checkpoint()));
        std::mt19937 random(kSeed);
        std::normal_distribution<float> normal;
        floats.resize(std::size_t{dims.rows} * dims.width);
        std::generate(floats.begin(), floats.end(), [&] { return normal(random); });
        for (std::size_t i = 0; i < floats.size(); i += dims.width) {
            const auto first = floats.begin() + static_cast<std::ptrdiff_t>(i);
            hidden.emplace_back(first, first + dims.width);
        }
    }
    [[nodiscard]] std::filesystem::path file() const { return folder / "model.safetensors"; }
    [[nodiscard]] PlainDecoder plain() const { return {tensors, dims, hidden}; }
};

Tokens some_tokens(std::size_t count, std::uint32_t vocabulary, std::uint32_t seed = 1) {
    std::mt19937 random(seed);
    Tokens tokens(count);
    std::generate(tokens.begin(), tokens.end(),
                  [&] { return static_cast<std::uint32_t>(random() % vocabulary); });
    return tokens;
}

/// A sequence that has looked at all of `hidden`.
std::unique_ptr<Sequence> listen(Engine& engine, std::span<const float> hidden) {
    auto sequence = engine.create_sequence(engine.context_length());
    REQUIRE(sequence != nullptr);
    const std::size_t most = std::size_t{engine.max_step_rows()} * engine.memory_columns();
    for (std::size_t at = 0; at < hidden.size(); at += most) {
        engine.load_memory(*sequence, hidden.subspan(at, std::min(most, hidden.size() - at)));
    }
    return sequence;
}

/// Logits of all tokens, `step` of them at a time.
std::vector<float> logits_of(Engine& engine, Sequence& sequence, const Tokens& tokens,
                             std::size_t step) {
    std::vector<float> all;
    for (std::size_t at = 0; at < tokens.size(); at += step) {
        const Chunk chunk{&sequence,
                          std::span(tokens).subspan(at, std::min(step, tokens.size() - at)),
                          Logits::all};
        const auto logits = engine.step({&chunk, 1});
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

/// Behind `begin`; `passes` at once.
Tokens greedy(Engine& engine, Sequence& sequence, const Tokens& begin, std::size_t count,
              std::uint32_t passes) {
    const Chunk first{&sequence, begin, Logits::greedy};
    (void)engine.step({&first, 1});
    Tokens ids(engine.ids().begin(), engine.ids().end());
    while (ids.size() < count) {
        const Tokens last = {ids.back()};
        const Chunk chunk{&sequence, last, Logits::greedy};
        (void)engine.step({&chunk, 1}, passes);
        ids.insert(ids.end(), engine.ids().begin(), engine.ids().end());
    }
    ids.resize(count);
    return ids;
}

}  // namespace

TEST_CASE("decoder: a random one's logits are the plain ones, however they are asked for") {
    M4_NEEDS_DEVICE();
    const Random random;
    const PlainDecoder plain = random.plain();
    const Tokens tokens = some_tokens(random.dims.context, random.dims.vocabulary);
    const auto wanted = plain_floats(plain.logits(tokens));
    Speech speech(random.file());
    Engine& engine = speech.decoder();
    CHECK(engine.memory_rows() == 100);
    CHECK(engine.memory_columns() == 24);
    CHECK(engine.context_length() == 70);
    CHECK(&speech.decoder() == &engine);
    const auto sequence = listen(engine, random.floats);
    CHECK(relative(logits_of(engine, *sequence, tokens, 24), wanted) < 1e-4);
    sequence->rewind(0);  // the memory stays
    CHECK(relative(logits_of(engine, *sequence, tokens, 1), wanted) < 1e-4);

    auto storage = options_of();
    storage.force_storage = true;
    storage.fuse = false;
    Speech other(random.file(), storage);
    CHECK(relative(logits_of(other.decoder(), *listen(other.decoder(), random.floats), tokens, 7),
                   wanted) < 1e-4);
    Speech half(random.file(), options_of(engine::KvType::f16));
    CHECK(relative(logits_of(half.decoder(), *listen(half.decoder(), random.floats), tokens, 24),
                   wanted) < 1e-2);
}

TEST_CASE("decoder: several sequences in a step look at their own rows") {
    M4_NEEDS_DEVICE();
    const Random random;
    Speech speech(random.file());
    Engine& engine = speech.decoder();
    std::vector<float> turned(random.floats.rbegin(), random.floats.rend());
    const Tokens tokens = some_tokens(9, random.dims.vocabulary);
    const auto alone = [&](std::span<const float> rows) {
        return logits_of(engine, *listen(engine, rows), tokens, 9);
    };
    const auto first_alone = alone(random.floats);
    const auto second_alone = alone(turned);
    CHECK(relative(first_alone, second_alone) > 1e-2);
    const auto first = listen(engine, random.floats);
    const auto second = listen(engine, turned);
    const std::array chunks = {Chunk{first.get(), tokens, Logits::all},
                               Chunk{second.get(), tokens, Logits::all}};
    const auto both = engine.step(chunks);
    CHECK(relative(both.first(first_alone.size()), first_alone) < 1e-5);
    CHECK(relative(both.subspan(first_alone.size()), second_alone) < 1e-5);
}

TEST_CASE("decoder: clones share what they looked at, and write apart") {
    M4_NEEDS_DEVICE();
    const Random random;
    const PlainDecoder plain = random.plain();
    Speech speech(random.file());
    Engine& engine = speech.decoder();
    Tokens left = some_tokens(16, random.dims.vocabulary);  // a page, whole
    Tokens right = left;
    const auto one = listen(engine, random.floats);
    CHECK(engine.kv_use().used == 7);
    (void)logits_of(engine, *one, left, 16);
    CHECK(engine.kv_use().used == 7);
    const auto two = one->clone();
    CHECK(engine.kv_use().used == 7);
    CHECK(engine.kv_use().shared == 7);
    CHECK(one->last_page_shared());
    // The next page holds rows of both, though no token yet.
    CHECK(one->pages_needed(1) == 1);
    CHECK(one->pages_needed(17) == 2);
    left.push_back(3);
    right.push_back(7);
    const std::array chunks = {Chunk{one.get(), std::span(left).last(1), Logits::all},
                               Chunk{two.get(), std::span(right).last(1), Logits::all}};
    const auto logits = engine.step(chunks);
    const auto wanted = [&](const Tokens& tokens) {
        return plain_floats({plain.logits(tokens).back()});
    };
    CHECK(relative(logits.first(50), wanted(left)) < 1e-4);
    CHECK(relative(logits.last(50), wanted(right)) < 1e-4);
    CHECK(engine.kv_use().used == 8);
    CHECK(engine.kv_use().shared == 6);
    for (int i = 0; i < 20; ++i) {
        left.push_back(11);
        right.push_back(12);
        const std::array more = {Chunk{one.get(), std::span(left).last(1), Logits::all},
                                 Chunk{two.get(), std::span(right).last(1), Logits::all}};
        const auto next = engine.step(more);
        if (i == 19) {
            CHECK(relative(next.first(50), wanted(left)) < 1e-4);
            CHECK(relative(next.last(50), wanted(right)) < 1e-4);
        }
    }
}

TEST_CASE("decoder: tokens that it chooses itself, in chains and alone") {
    M4_NEEDS_DEVICE();
    const Random random;
    const auto wanted = random.plain().greedy({1, 2}, 24);
    REQUIRE(wanted.margin > 1e-3);
    auto options = options_of();
    options.chain = 4;
    Speech speech(random.file(), options);
    Engine& engine = speech.decoder();
    CHECK(greedy(engine, *listen(engine, random.floats), {1, 2}, 24, 1) == wanted.ids);
    CHECK(greedy(engine, *listen(engine, random.floats), {1, 2}, 24, 4) == wanted.ids);
    while (engine.warm_up()) {
    }
    CHECK(engine.kv_use().used == 0);
    CHECK(greedy(engine, *listen(engine, random.floats), {1, 2}, 24, 3) == wanted.ids);
}

TEST_CASE("decoder: what does not fit is refused, and nothing changes") {
    M4_NEEDS_DEVICE();
    const Random random;
    Speech speech(random.file());
    Engine& engine = speech.decoder();
    const auto sequence = engine.create_sequence(70);
    const Tokens token = {1};
    const Chunk chunk{sequence.get(), token, Logits::last};
    CHECK_THROWS_WITH_AS((void)engine.step({&chunk, 1}), "a sequence has 0 of 100 rows of memory",
                         std::invalid_argument);
    const auto rows = [&](std::size_t count) { return std::span(random.floats).first(count * 24); };
    CHECK_THROWS_WITH_AS(engine.load_memory(*sequence, rows(25)),
                         "memory of 600 floats is not 1 to 24 rows of 24", std::invalid_argument);
    CHECK_THROWS_AS(engine.load_memory(*sequence, {}), std::invalid_argument);
    CHECK_THROWS_AS(engine.load_memory(*sequence, std::span(random.floats).first(25)),
                    std::invalid_argument);
    CHECK(engine.kv_use().used == 0);
    engine.load_memory(*sequence, rows(24));
    CHECK_THROWS_WITH_AS((void)sequence->clone(),
                         "cannot clone a sequence of 24 of 100 rows of memory",
                         std::invalid_argument);
    CHECK_THROWS_AS((void)engine.step({&chunk, 1}), std::invalid_argument);
    for (int i = 0; i < 3; ++i) {
        engine.load_memory(*sequence, rows(24));
    }
    CHECK_THROWS_WITH_AS(engine.load_memory(*sequence, rows(5)),
                         "memory of 120 floats is not 1 to 4 rows of 24", std::invalid_argument);
    engine.load_memory(*sequence, rows(4));
    CHECK(engine.step({&chunk, 1}).size() == 50);
    CHECK_THROWS_AS(engine.load_memory(*sequence, rows(1)), std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)speech.model.decoder(0), "part 0 is no decoder",
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS((void)speech.model.senses().encode(kPart, rows(1)), "part 1 is no encoder",
                         std::invalid_argument);
    CHECK(speech.model.backbone() == nullptr);
    // More inputs than there are pages for.
    std::vector<std::unique_ptr<Sequence>> others;
    while (engine.kv_use().free() >= 7) {
        others.push_back(engine.create_sequence(70));
        engine.load_memory(*others.back(), rows(1));
    }
    others.push_back(engine.create_sequence(70));
    const std::uint32_t used = engine.kv_use().used;
    CHECK_THROWS_AS(engine.load_memory(*others.back(), rows(1)), std::invalid_argument);
    CHECK(engine.kv_use().used == used);
}

TEST_CASE("decoder: Whisper's logits and tokens are the reference's") {
    M4_NEEDS_DEVICE();
    if (shared_data().empty()) {
        M4_SKIP("no reference data");
    }
    const std::filesystem::path data = shared_data() + "/whisper-tiny";
    const ReferenceData golden(data / "whisper-tiny.io.safetensors");
    Tokens tokens;
    for (const std::int64_t id : golden.read<std::int64_t>("in.tokens")) {
        tokens.push_back(static_cast<std::uint32_t>(id));
    }
    const auto hidden = golden.read<float>("out.encoder");
    const auto wanted = golden.read<float>("out.logits");
    const WhisperDims dims{.width = 64,
                           .heads = 4,
                           .layers = 2,
                           .inner = 256,
                           .bins = 80,
                           .rows = 1500,
                           .context = 64,
                           .vocabulary = 520};
    const PlainTensors names = random_whisper(dims, kSeed);
    const ReferenceData weights(data / "whisper-tiny.safetensors");
    PlainTensors tensors(kSeed);
    for (const auto& [name, tensor] : names.checkpoint()) {
        tensors.set(name, tensor.shape, weights.read<float>(name));
    }
    Rows rows;
    for (std::size_t i = 0; i < hidden.size(); i += dims.width) {
        const auto first = hidden.begin() + static_cast<std::ptrdiff_t>(i);
        rows.emplace_back(first, first + dims.width);
    }
    const PlainDecoder plain(tensors, dims, rows);
    CHECK(relative(plain_floats(plain.logits(tokens)), wanted) < 1e-4);

    auto options = options_of();
    options.kv_page_positions = 64;
    options.max_step_rows = 64;
    Speech speech(data / "whisper-tiny.safetensors", options);
    Engine& engine = speech.decoder();
    const auto sequence = listen(engine, hidden);
    const double distance = relative(logits_of(engine, *sequence, tokens, 24), wanted);
    MESSAGE("largest difference ", distance);
    CHECK(distance < 1e-3);
    const auto chosen = plain.greedy({tokens.front()}, 24);
    MESSAGE("least lead ", chosen.margin);
    sequence->rewind(0);
    CHECK(greedy(engine, *sequence, {tokens.front()}, 24, 1) == chosen.ids);
    // From the recording's features on, and with the daemon's halves.
    Speech half(data / "whisper-tiny.safetensors", {.device = test_device(), .validation = true});
    const auto states = half.model.senses().encode(0, golden.read<float>("in.mel")).hidden;
    const auto heard = listen(half.decoder(), {states.begin(), states.end()});
    CHECK(relative(logits_of(half.decoder(), *heard, tokens, 24), wanted) < 1e-2);
}

}  // namespace m4::test
