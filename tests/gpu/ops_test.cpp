// SPDX-License-Identifier: MIT
// Every operator but linear and attention against its plain definition, in
// double, with shapes that do not divide evenly.
#include <doctest/doctest.h>

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

std::vector<std::uint32_t> random_words(std::size_t count, std::uint32_t below) {
    std::mt19937_64 random(count + below);
    std::vector<std::uint32_t> words(count);
    for (std::uint32_t& word : words) {
        word = static_cast<std::uint32_t>(random() % below);
    }
    return words;
}

Matrix rows_of(const Matrix& data, const std::vector<std::uint32_t>& rows) {
    Matrix result{static_cast<std::uint32_t>(rows.size()), data.columns, {}};
    for (const std::uint32_t row : rows) {
        const auto first = data.data.begin() + static_cast<std::ptrdiff_t>(row * data.columns);
        result.data.insert(result.data.end(), first, first + data.columns);
    }
    return result;
}

template <typename Function>
Matrix map(Matrix a, const Matrix& b, Function function) {
    for (std::size_t i = 0; i < a.data.size(); ++i) {
        a.data[i] = static_cast<float>(
            function(static_cast<double>(a.data[i]), static_cast<double>(b.data[i])));
    }
    return a;
}

}  // namespace

TEST_CASE("gather_rows: of a tensor") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const m4_dtype dtype : {M4_DTYPE_F32, M4_DTYPE_F16, M4_DTYPE_Q8, M4_DTYPE_Q4}) {
            for (const std::uint32_t columns : {4U, 20U, 32U, 96U, 172U}) {
                const bool whole_blocks = columns % M4_IMAGE_QUANT_ELEMENTS == 0;
                if (!whole_blocks && (dtype == M4_DTYPE_Q8 || dtype == M4_DTYPE_Q4)) {
                    continue;
                }
                CAPTURE(setup.name());
                CAPTURE(static_cast<int>(dtype));
                CAPTURE(columns);
                const Matrix data = as_stored(random_matrix(37, columns, columns), dtype);
                OpBench bench(setup, kMaxRows);
                const auto table = bench.tensor(data, dtype, M4_LAYOUT_ROWS16);
                const auto y =
                    bench.op(OpCode::gather_rows, {table, bench.words(Role::token_ids)}, columns);
                for (const std::uint32_t rows : {1U, 17U, 64U}) {
                    const auto wanted = random_words(rows, data.rows);
                    bench.fill_words(Role::token_ids, wanted);
                    bench.run(rows);
                    CHECK(distance(bench.read(y), rows_of(data, wanted)) == 0);
                }
            }
        }
    }
}

TEST_CASE("gather_rows: of a value") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        CAPTURE(setup.name());
        OpBench bench(setup, kMaxRows);
        const auto x = bench.value(20, Symbol::tokens);
        const auto y =
            bench.op(OpCode::gather_rows, {x, bench.words(Role::output_rows)}, 20, Symbol::outputs);
        const Matrix data = random_matrix(17, 20, 3);
        const auto wanted = random_words(5, 17);
        bench.fill(x, data);
        bench.fill_words(Role::output_rows, wanted);
        bench.run(17, 5);
        CHECK(distance(bench.read(y), rows_of(data, wanted)) == 0);
        bench.run(17, 0);  // nothing wanted: nothing runs
    }
}

TEST_CASE("rms_norm") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const std::uint32_t columns : {4U, 8U, 20U, 64U, 171U, 288U}) {
            CAPTURE(setup.name());
            CAPTURE(columns);
            const Matrix weight = random_matrix(1, columns, columns);
            OpBench bench(setup, kMaxRows);
            const auto x = bench.value(columns, Symbol::tokens);
            const auto y =
                bench.op(OpCode::rms_norm, {x, bench.tensor(weight, M4_DTYPE_F32, M4_LAYOUT_PLAIN)},
                         columns);
            bench.set(AttrId::eps, 1e-5);
            for (const std::uint32_t rows : {1U, 3U, 64U}) {
                const Matrix data = random_matrix(rows, columns, rows);
                Matrix expected = data;
                for (std::uint32_t r = 0; r < rows; ++r) {
                    double sum = 0;
                    for (std::uint32_t c = 0; c < columns; ++c) {
                        sum += double{data.at(r, c)} * double{data.at(r, c)};
                    }
                    const double factor = 1 / std::sqrt(sum / columns + 1e-5);
                    for (std::uint32_t c = 0; c < columns; ++c) {
                        expected.data[std::size_t{r} * columns + c] = static_cast<float>(
                            double{data.at(r, c)} * factor * double{weight.at(0, c)});
                    }
                }
                bench.fill(x, data);
                bench.run(rows);
                CHECK(distance(bench.read(y), expected) < 2e-6);
            }
        }
    }
}

TEST_CASE("rope: also part of a head, and odd heads") {
    M4_NEEDS_DEVICE();
    struct Shape {
        std::uint32_t heads, head_dim, rotated, fine_rows;
    };
    for (const Setup& setup : all_setups()) {
        for (const Shape& s : {Shape{4, 16, 16, 16}, Shape{3, 20, 8, 4}, Shape{2, 7, 6, 8},
                               Shape{5, 6, 6, 1}, Shape{1, 64, 64, 32}}) {
            CAPTURE(setup.name());
            CAPTURE(s.head_dim);
            constexpr std::uint32_t kContext = 100;
            const auto angle = [&](double position, std::uint32_t i) {
                return position * std::pow(10000.0, -2.0 * i / s.rotated);
            };
            const std::uint32_t coarse = (kContext + s.fine_rows - 1) / s.fine_rows;
            Matrix table{s.fine_rows + coarse, s.rotated, {}};
            for (std::uint32_t row = 0; row < table.rows; ++row) {
                const double position = row < s.fine_rows ? row : (row - s.fine_rows) * s.fine_rows;
                for (std::uint32_t i = 0; i < s.rotated / 2; ++i) {
                    table.data.push_back(static_cast<float>(std::cos(angle(position, i))));
                    table.data.push_back(static_cast<float>(std::sin(angle(position, i))));
                }
            }
            const std::uint32_t columns = s.heads * s.head_dim;
            OpBench bench(setup, kMaxRows);
            const auto x = bench.value(columns, Symbol::tokens);
            const auto y = bench.op(OpCode::rope,
                                    {x, bench.words(Role::positions),
                                     bench.tensor(table, M4_DTYPE_F32, M4_LAYOUT_PLAIN)},
                                    columns);
            bench.set(AttrId::heads, std::int64_t{s.heads});
            bench.set(AttrId::head_dim, std::int64_t{s.head_dim});
            bench.set(AttrId::fine_rows, std::int64_t{s.fine_rows});
            for (const std::uint32_t rows : {1U, 9U}) {
                const Matrix data = random_matrix(rows, columns, rows);
                const auto positions = random_words(rows, kContext);
                Matrix expected = data;
                for (std::uint32_t r = 0; r < rows; ++r) {
                    for (std::uint32_t h = 0; h < s.heads; ++h) {
                        for (std::uint32_t i = 0; i < s.rotated / 2; ++i) {
                            const std::uint32_t at = h * s.head_dim + 2 * i;
                            const double turn = angle(positions[r], i);
                            const double a = data.at(r, at);
                            const double b = data.at(r, at + 1);
                            float* out = &expected.data[std::size_t{r} * columns + at];
                            out[0] = static_cast<float>(a * std::cos(turn) - b * std::sin(turn));
                            out[1] = static_cast<float>(a * std::sin(turn) + b * std::cos(turn));
                        }
                    }
                }
                bench.fill(x, data);
                bench.fill_words(Role::positions, positions);
                bench.run(rows);
                CHECK(distance(bench.read(y), expected) < 1e-6);
            }
        }
    }
}

TEST_CASE("add, mul, activation") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const std::uint32_t columns : {4U, 13U, 172U}) {
            CAPTURE(setup.name());
            CAPTURE(columns);
            OpBench bench(setup, kMaxRows);
            const auto a = bench.value(columns, Symbol::tokens);
            const auto b = bench.value(columns, Symbol::tokens);
            const auto sum = bench.op(OpCode::add, {a, b}, columns);
            const auto product = bench.op(OpCode::mul, {a, b}, columns);
            const auto active = bench.op(OpCode::activation, {a}, columns);
            bench.set(AttrId::function, std::int64_t{1});
            for (const std::uint32_t rows : {1U, 17U, 64U}) {
                Matrix x = random_matrix(rows, columns, rows);
                for (float& value : x.data) {
                    value *= 20;
                }
                x.data[0] = -200;  // exp overflows: still 0, not NaN
                const Matrix y = random_matrix(rows, columns, rows + 1);
                bench.fill(a, x);
                bench.fill(b, y);
                bench.run(rows);
                CHECK(distance(bench.read(sum),
                               map(x, y, [](double p, double q) { return p + q; })) < 1e-7);
                CHECK(distance(bench.read(product),
                               map(x, y, [](double p, double q) { return p * q; })) < 1e-7);
                CHECK(distance(bench.read(active), map(x, y, [](double p, double) {
                                   return p / (1 + std::exp(-p));
                               })) < 2e-6);
            }
        }
    }
}

}  // namespace m4::test
