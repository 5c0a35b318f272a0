// SPDX-License-Identifier: MIT
// linear against its plain definition: every tile, K split, bias, dtype.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/engine.hpp"
#include "gpu.hpp"
#include "op_bench.hpp"

namespace m4::test {

namespace {

using firmware::OpCode;
using firmware::Symbol;

constexpr std::uint32_t kMaxRows = 64;

Matrix multiply(const Matrix& x, const Matrix& weight, const Matrix* bias) {
    Matrix y{x.rows, weight.rows, {}};
    for (std::uint32_t r = 0; r < x.rows; ++r) {
        for (std::uint32_t n = 0; n < weight.rows; ++n) {
            double sum = bias != nullptr ? double{bias->at(0, n)} : 0.0;
            for (std::uint32_t k = 0; k < x.columns; ++k) {
                sum += double{x.at(r, k)} * double{weight.at(n, k)};
            }
            y.data.push_back(static_cast<float>(sum));
        }
    }
    return y;
}

struct Shape {
    std::uint32_t rows, columns;  // of the weight
};

void check_linear(const Setup& setup, m4_dtype dtype, const Shape& shape, bool with_bias,
                  const std::vector<std::uint32_t>& steps) {
    CAPTURE(setup.name());
    CAPTURE(static_cast<int>(dtype));
    CAPTURE(shape.rows);
    CAPTURE(shape.columns);
    const Matrix weight =
        as_stored(random_matrix(shape.rows, shape.columns, shape.rows + shape.columns), dtype);
    const Matrix bias = random_matrix(1, shape.rows, 5);
    OpBench bench(setup, kMaxRows);
    const auto x = bench.value(shape.columns, Symbol::tokens);
    std::vector<firmware::Operand> inputs = {x, bench.tensor(weight, dtype, M4_LAYOUT_ROWS16), {}};
    if (with_bias) {
        inputs[2] = bench.tensor(bias, M4_DTYPE_F32, M4_LAYOUT_PLAIN);
    }
    const auto y = bench.op(OpCode::linear, inputs, shape.rows);
    for (const std::uint32_t rows : steps) {
        CAPTURE(rows);
        const Matrix data = random_matrix(rows, shape.columns, rows);
        bench.fill(x, data);
        bench.run(rows);
        CHECK(distance(bench.read(y), multiply(data, weight, with_bias ? &bias : nullptr)) < 1e-5);
    }
    if (!setup.staging) {
        CHECK_MESSAGE((bench.import_name() == "host_pointer" || bench.import_name() == "staging"),
                      bench.import_name());
    } else {
        CHECK(bench.import_name() == "staging");
    }
}

}  // namespace

TEST_CASE("linear: every count of rows") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const m4_dtype dtype : {M4_DTYPE_F32, M4_DTYPE_F16, M4_DTYPE_Q8, M4_DTYPE_Q4}) {
            check_linear(setup, dtype, {20, 64}, false, {1, 2, 3, 4, 5, 8, 9, 12, 17, 64});
        }
    }
}

TEST_CASE("linear: shapes that do not divide evenly, with and without bias") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const m4_dtype dtype : {M4_DTYPE_F32, M4_DTYPE_F16}) {
            for (const Shape& shape : {Shape{1, 4}, Shape{8, 8}, Shape{17, 20}, Shape{64, 172},
                                       Shape{172, 64}, Shape{13, 7}, Shape{300, 5}}) {
                check_linear(setup, dtype, shape, true, {1, 3, 9});
                check_linear(setup, dtype, shape, false, {5});
            }
        }
    }
}

TEST_CASE("linear: quantised shapes, with and without bias") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const m4_dtype dtype : {M4_DTYPE_Q8, M4_DTYPE_Q4}) {
            for (const Shape& shape :
                 {Shape{1, 32}, Shape{17, 32}, Shape{64, 352}, Shape{172, 96}, Shape{300, 32}}) {
                check_linear(setup, dtype, shape, true, {1, 3, 9});
                check_linear(setup, dtype, shape, false, {5});
            }
        }
    }
}

TEST_CASE("linear: weights copied instead of imported") {
    M4_NEEDS_DEVICE();
    Setup setup;
    setup.staging = true;
    check_linear(setup, M4_DTYPE_F16, {64, 172}, true, {1, 9});
}

TEST_CASE("linear, gather_rows: a matrix that no binding holds is read in slices") {
    M4_NEEDS_DEVICE();
    struct Case {
        m4_dtype dtype;
        std::uint32_t columns;
        std::uint64_t slice_bytes;
    };
    // 117 rows are 8 groups of 16; three groups of a matrix go into a slice.
    for (const Case& c : {Case{M4_DTYPE_F32, 44, 3 * 16 * 11 * 16}, Case{M4_DTYPE_F16, 40, 4000},
                          Case{M4_DTYPE_Q8, 96, 3 * 3 * 34 * 16}, Case{M4_DTYPE_Q4, 64, 2000}}) {
        for (Setup setup : all_setups()) {
            setup.slice_bytes = c.slice_bytes;
            CAPTURE(setup.name());
            CAPTURE(static_cast<int>(c.dtype));
            const Matrix weight = as_stored(random_matrix(117, c.columns, 1), c.dtype);
            const Matrix bias = random_matrix(1, 117, 5);
            OpBench bench(setup, kMaxRows);
            const auto ids = bench.words(firmware::Role::token_ids);
            const auto matrix = bench.tensor(weight, c.dtype, M4_LAYOUT_ROWS16);
            const auto x = bench.op(OpCode::gather_rows, {matrix, ids}, c.columns);
            const auto y =
                bench.op(OpCode::linear,
                         {x, matrix, bench.tensor(bias, M4_DTYPE_F32, M4_LAYOUT_PLAIN)}, 117);
            const std::vector<std::uint32_t> rows = {0, 47, 48, 116, 95, 96, 1, 115, 50};
            bench.fill_words(firmware::Role::token_ids, rows);
            bench.run(9);
            CHECK(bench.slice_count(matrix) > 2);
            Matrix expected{9, c.columns, {}};
            for (const std::uint32_t row : rows) {
                for (std::uint32_t k = 0; k < c.columns; ++k) {
                    expected.data.push_back(weight.at(row, k));
                }
            }
            CHECK(distance(bench.read(x), expected) < 1e-6);
            CHECK(distance(bench.read(y), multiply(expected, weight, &bias)) < 1e-5);
        }
    }
}

TEST_CASE("linear: a vector that no binding holds is refused by name") {
    M4_NEEDS_DEVICE();
    OpBench bench({.slice_bytes = 64}, kMaxRows);
    const auto x = bench.value(44, Symbol::tokens);
    const auto norm = bench.tensor(random_matrix(1, 44, 1), M4_DTYPE_F32, M4_LAYOUT_PLAIN);
    bench.op(OpCode::rms_norm, {x, norm}, 44);
    bench.set(firmware::AttrId::eps, 1e-5);
    bench.fill(x, random_matrix(1, 44, 2));
    CHECK_THROWS_WITH_AS(bench.run(1), doctest::Contains("'tensor' of 176 bytes"),
                         engine::DeviceError);
}

TEST_CASE("linear: weights in several windows") {
    M4_NEEDS_DEVICE();
    for (const bool staging : {false, true}) {
        CAPTURE(staging);
        // Tensors of 11,008 bytes: a window holds one, and shares a page with
        // the next.
        OpBench bench({.staging = staging, .window_bytes = 16384}, kMaxRows);
        const auto x = bench.value(43, Symbol::tokens);
        std::vector<Matrix> weights;
        std::vector<firmware::Operand> results;
        for (std::uint32_t i = 0; i < 5; ++i) {
            weights.push_back(random_matrix(61, 43, i));
            const auto weight = bench.tensor(weights.back(), M4_DTYPE_F32, M4_LAYOUT_ROWS16);
            results.push_back(bench.op(OpCode::linear, {x, weight, {}}, 61));
        }
        const Matrix data = random_matrix(3, 43, 9);
        bench.fill(x, data);
        bench.run(3);
        CHECK(bench.window_count() == 5);
        for (std::size_t i = 0; i < results.size(); ++i) {
            CHECK(distance(bench.read(results[i]), multiply(data, weights[i], nullptr)) < 1e-5);
        }
    }
}

}  // namespace m4::test
