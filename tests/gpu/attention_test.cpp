// SPDX-License-Identifier: MIT
// kv_write and attention together against the plain definition.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "gpu.hpp"
#include "op_bench.hpp"

namespace m4::test {

namespace {

using firmware::AttrId;
using firmware::OpCode;
using firmware::Role;
using firmware::Symbol;

using engine::KvType;

constexpr std::uint32_t kMaxRows = 64;

struct Shape {
    std::uint32_t heads, kv_heads, head_dim;
};

/// A sequence's keys and values so far, as the cache keeps them.
struct History {
    std::vector<std::vector<float>> keys;
    std::vector<std::vector<float>> values;
};

/// Near numbers that a Q8 cache keeps as they are: in each block of 32 elements
/// of a head the first is the largest, 127 steps, and an element the byte of a
/// word with those below it as its fraction (shaders/include/kv.glsl).
Matrix as_fixed_point(Matrix matrix, std::uint32_t head_dim) {
    constexpr std::uint32_t kBlock = 32;
    constexpr double kStep = 1.0 / 128;
    std::array<std::uint32_t, kBlock / 4> words{};
    for (std::size_t at = 0; at < matrix.data.size(); ++at) {
        const std::size_t i = at % head_dim % kBlock;
        if (i == 0) {
            words = {};
        }
        std::uint32_t& word = words[i / 16 * 4 + i % 4];
        const auto byte = static_cast<unsigned>(i % 16 / 4);
        const double fraction = std::ldexp(word, -8 * static_cast<int>(byte));
        const double wanted = double{matrix.data[at]} * 120 - fraction;
        const double steps = i == 0 ? std::copysign(127.0, wanted) : std::floor(wanted + 0.5);
        word |= (static_cast<std::uint32_t>(static_cast<std::int32_t>(steps)) & 255U) << 8 * byte;
        matrix.data[at] = static_cast<float>((steps + fraction) * kStep);
    }
    return matrix;
}

std::vector<float> attend(const Shape& s, double scale, const float* q, const History& history,
                          std::uint32_t position) {
    std::vector<float> y;
    for (std::uint32_t h = 0; h < s.heads; ++h) {
        const std::size_t kv_at = std::size_t{h / (s.heads / s.kv_heads)} * s.head_dim;
        std::vector<double> weights;
        for (std::uint32_t t = 0; t <= position; ++t) {
            double score = 0;
            for (std::uint32_t i = 0; i < s.head_dim; ++i) {
                score += double{q[h * s.head_dim + i]} * double{history.keys[t][kv_at + i]};
            }
            weights.push_back(score * scale);
        }
        const double top = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (double& weight : weights) {
            weight = std::exp(weight - top);
            sum += weight;
        }
        for (std::uint32_t i = 0; i < s.head_dim; ++i) {
            double out = 0;
            for (std::uint32_t t = 0; t <= position; ++t) {
                out += weights[t] / sum * double{history.values[t][kv_at + i]};
            }
            y.push_back(static_cast<float>(out));
        }
    }
    return y;
}

/// Two states, so that layers must not mix, and sequences in one step whose
/// rows alternate; steps of several sizes, as prefill then decode.
void check_attention(const Setup& setup, const Shape& s, const std::vector<std::uint32_t>& steps) {
    CAPTURE(setup.name());
    CAPTURE(s.heads);
    CAPTURE(s.kv_heads);
    CAPTURE(s.head_dim);
    const double scale = 3.0 / std::sqrt(s.head_dim);
    const std::uint32_t q_columns = s.heads * s.head_dim;
    const std::uint32_t kv_columns = s.kv_heads * s.head_dim;
    OpBench bench(setup, kMaxRows);
    const auto q = bench.value(q_columns, Symbol::tokens);
    const auto k = bench.value(kv_columns, Symbol::tokens);
    const auto v = bench.value(kv_columns, Symbol::tokens);
    const auto positions = bench.words(Role::positions);
    const auto first = bench.state(s.kv_heads, s.head_dim);
    const auto second = bench.state(s.kv_heads, s.head_dim);
    bench.op(OpCode::kv_write, {first, k, v, positions}, 0);
    bench.op(OpCode::kv_write, {second, v, k, positions}, 0);
    const auto y = bench.op(OpCode::attention, {q, first, positions}, q_columns);
    bench.set(AttrId::heads, std::int64_t{s.heads});
    bench.set(AttrId::scale, scale);

    constexpr std::uint32_t kSequences = 2;
    // Pages in no order; those of one sequence between those of the other.
    const std::vector<std::vector<std::uint32_t>> tables = {{5, 0, 7, 2}, {1, 6, 3, 4}};
    std::vector<History> histories(kSequences);
    std::uint64_t seed = 1;
    for (const std::uint32_t rows : steps) {
        CAPTURE(rows);
        const Matrix queries = random_matrix(rows, q_columns, seed++);
        Matrix keys = random_matrix(rows, kv_columns, seed++);
        Matrix values = random_matrix(rows, kv_columns, seed++);
        if (setup.kv_type == KvType::q8) {
            keys = as_fixed_point(std::move(keys), s.head_dim);
            values = as_fixed_point(std::move(values), s.head_dim);
        }
        bench.fill(q, queries);
        bench.fill(k, keys);
        bench.fill(v, values);
        if (setup.kv_type == KvType::f16) {
            keys = as_half(keys);
            values = as_half(values);
        }
        std::vector<std::uint32_t> row_positions;
        std::vector<std::uint32_t> row_sequences;
        for (std::uint32_t r = 0; r < rows; ++r) {
            History& history = histories[r % kSequences];
            const auto copy = [&](const Matrix& m) {
                return std::vector<float>(&m.data[std::size_t{r} * kv_columns],
                                          &m.data[std::size_t{r} * kv_columns] + kv_columns);
            };
            row_sequences.push_back(r % kSequences);
            row_positions.push_back(static_cast<std::uint32_t>(history.keys.size()));
            history.keys.push_back(copy(keys));
            history.values.push_back(copy(values));
        }
        bench.fill_words(Role::positions, row_positions);
        bench.fill_kv(tables, row_sequences);
        bench.run(rows);
        Matrix expected{rows, q_columns, {}};
        for (std::uint32_t r = 0; r < rows; ++r) {
            const auto row = attend(s, scale, &queries.data[std::size_t{r} * q_columns],
                                    histories[row_sequences[r]], row_positions[r]);
            expected.data.insert(expected.data.end(), row.begin(), row.end());
        }
        CHECK(distance(bench.read(y), expected) < 1e-5);
    }
}

constexpr std::uint32_t kKeptDim = 50;

/// Rows of values as the cache gives them back: each the first of a sequence of
/// its own, so that it is the whole of what attention sums up.
Matrix kept_values(const Setup& setup, const Matrix& values) {
    OpBench bench(setup, kMaxRows);
    const auto q = bench.value(kKeptDim, Symbol::tokens);
    const auto v = bench.value(kKeptDim, Symbol::tokens);
    const auto positions = bench.words(Role::positions);
    const auto state = bench.state(1, kKeptDim);
    bench.op(OpCode::kv_write, {state, q, v, positions}, 0);
    const auto y = bench.op(OpCode::attention, {q, state, positions}, kKeptDim);
    bench.set(AttrId::heads, std::int64_t{1});
    bench.set(AttrId::scale, 1.0);
    bench.fill(q, random_matrix(values.rows, kKeptDim, 1));
    bench.fill(v, values);
    std::vector<std::vector<std::uint32_t>> tables;
    std::vector<std::uint32_t> rows;
    for (std::uint32_t r = 0; r < values.rows; ++r) {
        tables.push_back({r});
        rows.push_back(r);
    }
    bench.fill_words(Role::positions, std::vector<std::uint32_t>(values.rows, 0));
    bench.fill_kv(tables, rows);
    bench.run(values.rows);
    return bench.read(y);
}

}  // namespace

TEST_CASE("attention: heads of every kind") {
    M4_NEEDS_DEVICE();
    for (const Shape& shape :
         {Shape{4, 2, 8}, Shape{3, 3, 20}, Shape{8, 2, 16}, Shape{2, 1, 7}, Shape{1, 1, 4}}) {
        for (const KvType kv_type : {KvType::f32, KvType::f16, KvType::q8}) {
            for (Setup setup : all_setups()) {
                setup.kv_type = kv_type;
                check_attention(setup, shape, {17, 1, 2, 8, 3, 41, 1, 2});
            }
        }
    }
}

TEST_CASE("attention: wide heads") {
    M4_NEEDS_DEVICE();
    for (const KvType kv_type : {KvType::f32, KvType::f16, KvType::q8}) {
        for (Setup setup : {Setup{}, Setup{.gpu_tuning = true}}) {
            setup.kv_type = kv_type;
            check_attention(setup, {4, 2, 64}, {64, 1, 9});
            check_attention(setup, {2, 1, 128}, {9, 1});
            check_attention(setup, {1, 1, 256}, {9, 1});
            check_attention(setup, {2, 2, 180}, {9, 1});
        }
    }
}

TEST_CASE("attention: slices of a context, whole pages each") {
    M4_NEEDS_DEVICE();
    // Of two sequences, so that each meets the border of a page: 15 positions, 16,
    // 17, then 31 and on. Slices outnumber the pages, or do not divide them.
    const std::vector<std::uint32_t> steps = {30, 2, 2, 1, 27, 2, 2, 6, 2};
    for (const KvType kv_type : {KvType::f32, KvType::f16, KvType::q8}) {
        for (const std::uint32_t slices : {3U, 16U}) {
            for (Setup setup : {Setup{}, Setup{.storage = true}, Setup{.gpu_tuning = true}}) {
                setup.kv_type = kv_type;
                setup.slices = slices;
                check_attention(setup, {4, 2, 8}, steps);
                check_attention(setup, {2, 1, 7}, steps);
                check_attention(setup, {2, 2, 64}, steps);
            }
        }
    }
}

TEST_CASE("attention: an F16 cache and numbers that are small for halves") {
    M4_NEEDS_DEVICE();
    for (Setup setup : all_setups()) {
        setup.kv_type = KvType::f16;
        CAPTURE(setup.name());
        Matrix values = random_matrix(1, kKeptDim, 5);
        for (std::uint32_t i = 0; i < kKeptDim; ++i) {
            // From 1 down to 2^-24, the smallest half.
            values.data[i] =
                std::ldexp(std::copysign(1.0F + std::abs(values.data[i]) / 2, values.data[i]),
                           -static_cast<int>(i % 25));
        }
        const Matrix kept = kept_values(setup, values);
        const Matrix halves = as_half(values);
        float lost = 0;
        for (std::uint32_t i = 0; i < kKeptDim; ++i) {
            CAPTURE(values.data[i]);
            const float least = 0x1p-14F;
            const float error = std::abs(kept.data[i] - halves.data[i]);
            if (std::abs(halves.data[i]) >= least) {
                CHECK(error <= 1e-6F * std::abs(halves.data[i]));
            } else {
                lost = std::max(lost, error);
                CHECK(error <= std::abs(halves.data[i]));
            }
        }
        MESSAGE(setup.name(), ": of what is below 2^-14 at most ", lost, " is lost");
    }
}

TEST_CASE("attention: a Q8 cache keeps a number to half a step of its block") {
    M4_NEEDS_DEVICE();
    for (Setup setup : all_setups()) {
        setup.kv_type = KvType::q8;
        CAPTURE(setup.name());
        Matrix values = random_matrix(6, kKeptDim, 5);
        const auto row = [&](std::size_t r) {
            return std::span(values.data).subspan(r * kKeptDim, kKeptDim);
        };
        for (std::uint32_t i = 0; i < kKeptDim; ++i) {
            row(1)[i] *= 1e-12F;
            row(2)[i] *= 1e12F;
            row(3)[i] = std::copysign(1.0F, row(3)[i]);
            row(4)[i] *= i % 32 == 31 ? 1.0F : 1e-6F;
        }
        std::ranges::fill(row(5), 0.0F);
        const Matrix kept = kept_values(setup, values);
        for (std::size_t r = 0; r < values.rows; ++r) {
            CAPTURE(r);
            for (std::size_t i = 0; i < kKeptDim; ++i) {
                CAPTURE(i);
                const auto block =
                    row(r).subspan(i / 32 * 32, std::min<std::size_t>(32, kKeptDim - i / 32 * 32));
                float largest = 0;
                for (const float value : block) {
                    largest = std::max(largest, std::abs(value));
                }
                CHECK(std::abs(kept.data[r * kKeptDim + i] - row(r)[i]) <= largest / 254 * 1.0001F);
            }
        }
        row(0)[3] = std::numeric_limits<float>::infinity();
        const Matrix bounded = kept_values(setup, values);
        CHECK(std::ranges::all_of(bounded.data, [](float x) { return std::isfinite(x); }));
    }
}

}  // namespace m4::test
