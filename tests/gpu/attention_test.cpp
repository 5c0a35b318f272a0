// SPDX-License-Identifier: MIT
// kv_write and attention together against the plain definition.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "gpu.hpp"
#include "op_bench.hpp"

namespace m4::test {

namespace {

using firmware::AttrId;
using firmware::OpCode;
using firmware::Role;
using firmware::Symbol;

constexpr std::uint32_t kMaxRows = 64;

struct Shape {
    std::uint32_t heads, kv_heads, head_dim;
};

/// A sequence's keys and values so far, as the cache keeps them.
struct History {
    std::vector<std::vector<float>> keys;
    std::vector<std::vector<float>> values;
};

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
        bench.fill(q, queries);
        bench.fill(k, keys);
        bench.fill(v, values);
        if (setup.f16_kv) {
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

}  // namespace

TEST_CASE("attention: heads of every kind") {
    M4_NEEDS_DEVICE();
    for (const Shape& shape :
         {Shape{4, 2, 8}, Shape{3, 3, 20}, Shape{8, 2, 16}, Shape{2, 1, 7}, Shape{1, 1, 4}}) {
        for (const bool f16 : {false, true}) {
            for (Setup setup : all_setups()) {
                setup.f16_kv = f16;
                check_attention(setup, shape, {17, 1, 2, 8, 3, 41, 1, 2});
            }
        }
    }
}

TEST_CASE("attention: wide heads") {
    M4_NEEDS_DEVICE();
    for (const bool f16 : {false, true}) {
        for (Setup setup : {Setup{}, Setup{.gpu_tuning = true}}) {
            setup.f16_kv = f16;
            check_attention(setup, {4, 2, 64}, {64, 1, 9});
            check_attention(setup, {2, 1, 128}, {9, 1});
            check_attention(setup, {1, 1, 256}, {9, 1});
        }
    }
}

}  // namespace m4::test
