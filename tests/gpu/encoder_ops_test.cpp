// SPDX-License-Identifier: MIT
// The operators of encoders against their plain definitions, in double, with
// shapes that do not divide evenly, several items at a time.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "gpu.hpp"
#include "op_bench.hpp"

namespace m4::test {

namespace {

using firmware::Activation;
using firmware::AttrId;
using firmware::OpCode;
using firmware::Operand;
using firmware::Symbol;

constexpr std::uint32_t kMaxItems = 3;
constexpr std::array kItems = {1U, 3U};
constexpr std::array kWidths = {4U, 20U, 64U, 171U};

/// A matrix by a rule for each element.
Matrix made_of(std::uint32_t rows, std::uint32_t columns,
               const std::function<double(std::uint32_t, std::uint32_t)>& element) {
    Matrix result{rows, columns, {}};
    for (std::uint32_t r = 0; r < rows; ++r) {
        for (std::uint32_t c = 0; c < columns; ++c) {
            result.data.push_back(static_cast<float>(element(r, c)));
        }
    }
    return result;
}

/// Rows and columns of a matrix, in double.
double at(const Matrix& matrix, std::uint32_t row, std::uint32_t column) {
    return double{matrix.at(row, column)};
}

struct Heads {
    std::uint32_t heads, kv_heads, head_dim, rows, kv_rows;
    bool causal;
};

Matrix attend(const Heads& s, const Matrix& q, const Matrix& k, const Matrix& v, double scale) {
    Matrix result{q.rows, q.columns, std::vector<float>(q.data.size())};
    for (std::uint32_t t = 0; t < q.rows; ++t) {
        const std::uint32_t first = t / s.rows * s.kv_rows;
        const std::uint32_t count = s.causal ? t % s.rows + 1 : s.kv_rows;
        for (std::uint32_t head = 0; head < s.heads; ++head) {
            const std::uint32_t from = head * s.head_dim;
            const std::uint32_t kv_from = head / (s.heads / s.kv_heads) * s.head_dim;
            std::vector<double> weights(count);
            for (std::uint32_t j = 0; j < count; ++j) {
                for (std::uint32_t i = 0; i < s.head_dim; ++i) {
                    weights[j] += at(q, t, from + i) * at(k, first + j, kv_from + i) * scale;
                }
            }
            const double most = *std::max_element(weights.begin(), weights.end());
            double sum = 0;
            for (double& weight : weights) {
                weight = std::exp(weight - most);
                sum += weight;
            }
            for (std::uint32_t i = 0; i < s.head_dim; ++i) {
                double y = 0;
                for (std::uint32_t j = 0; j < count; ++j) {
                    y += weights[j] / sum * at(v, first + j, kv_from + i);
                }
                result.data[std::size_t{t} * q.columns + from + i] = static_cast<float>(y);
            }
        }
    }
    return result;
}

/// Windows of planes.
struct Windows {
    std::uint32_t channels, height, width, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;

    [[nodiscard]] std::uint32_t down() const {
        return (height + 2 * pad_h - kernel_h) / stride_h + 1;
    }
    [[nodiscard]] std::uint32_t across() const {
        return (width + 2 * pad_w - kernel_w) / stride_w + 1;
    }
};

Matrix unfolded(const Windows& s, const Matrix& x, std::uint32_t items) {
    const std::uint32_t windows = s.down() * s.across();
    return made_of(
        items * windows, s.channels * s.kernel_h * s.kernel_w,
        [&](std::uint32_t r, std::uint32_t c) {
            const std::uint32_t window = r % windows;
            const auto y =
                std::int64_t{window / s.across() * s.stride_h + c / s.kernel_w % s.kernel_h} -
                std::int64_t{s.pad_h};
            const auto z = std::int64_t{window % s.across() * s.stride_w + c % s.kernel_w} -
                           std::int64_t{s.pad_w};
            if (y < 0 || z < 0 || y >= s.height || z >= s.width) {
                return 0.0;
            }
            const std::uint32_t plane = r / windows * s.channels + c / (s.kernel_h * s.kernel_w);
            return at(x, plane * s.height + static_cast<std::uint32_t>(y),
                      static_cast<std::uint32_t>(z));
        });
}

}  // namespace

TEST_CASE("layer_norm: also of rows far from zero") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const std::uint32_t columns : kWidths) {
            CAPTURE(setup.name());
            CAPTURE(columns);
            const Matrix weight = random_matrix(1, columns, columns);
            const Matrix bias = random_matrix(1, columns, columns + 1);
            OpBench bench(setup, 64);
            const Operand x = bench.value(columns, Symbol::tokens);
            const Operand y = bench.op(OpCode::layer_norm,
                                       {x, bench.tensor(weight, M4_DTYPE_F32, M4_LAYOUT_PLAIN),
                                        bench.tensor(bias, M4_DTYPE_F32, M4_LAYOUT_PLAIN)},
                                       columns);
            bench.set(AttrId::eps, 1e-12);
            for (const double offset : {0.0, 30.0}) {
                Matrix data = random_matrix(17, columns, columns);
                for (float& value : data.data) {
                    value += static_cast<float>(offset);
                }
                const Matrix expected = made_of(17, columns, [&](std::uint32_t r, std::uint32_t c) {
                    double mean = 0;
                    double variance = 0;
                    for (std::uint32_t i = 0; i < columns; ++i) {
                        mean += at(data, r, i) / columns;
                    }
                    for (std::uint32_t i = 0; i < columns; ++i) {
                        variance += (at(data, r, i) - mean) * (at(data, r, i) - mean) / columns;
                    }
                    return (at(data, r, c) - mean) / std::sqrt(variance + 1e-12) *
                               at(weight, 0, c) +
                           at(bias, 0, c);
                });
                bench.fill(x, data);
                bench.run(17);
                CHECK(distance(bench.read(y), expected) < (offset == 0 ? 5e-6 : 5e-5));
            }
        }
    }
}

TEST_CASE("activation: those of encoders, also far out") {
    M4_NEEDS_DEVICE();
    const std::vector<std::pair<Activation, std::function<double(double)>>> functions = {
        {Activation::gelu, [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }},
        {Activation::gelu_tanh,
         [](double x) {
             const double inner = std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x);
             return 0.5 * x * (1 + std::tanh(inner));
         }},
        {Activation::gelu_quick, [](double x) { return x / (1 + std::exp(-1.702 * x)); }},
        {Activation::relu, [](double x) { return std::max(x, 0.0); }},
        {Activation::tanh, [](double x) { return std::tanh(x); }},
    };
    for (const Setup& setup : all_setups()) {
        for (const auto& [function, plain] : functions) {
            CAPTURE(setup.name());
            CAPTURE(static_cast<int>(function));
            OpBench bench(setup, 64);
            const Operand x = bench.value(21, Symbol::tokens);
            const Operand y = bench.op(OpCode::activation, {x}, 21);
            bench.set(AttrId::function, static_cast<std::int64_t>(function));
            Matrix data = random_matrix(19, 21, 5);
            for (std::size_t i = 0; i < data.data.size(); ++i) {
                data.data[i] *= i % 3 == 0 ? 1.0F : i % 3 == 1 ? 6.0F : 60.0F;
            }
            data.data[0] = 0;
            bench.fill(x, data);
            bench.run(19);
            const Matrix expected = made_of(
                19, 21, [&](std::uint32_t r, std::uint32_t c) { return plain(at(data, r, c)); });
            CHECK(distance(bench.read(y), expected) < 1e-6);
        }
    }
}

TEST_CASE("self_attention: whole items, causal, other rows, shared heads, odd heads") {
    M4_NEEDS_DEVICE();
    std::vector<Setup> setups = all_setups();
    setups.push_back({.alone = true});
    for (const Setup& setup : setups) {
        for (const Heads& s : {Heads{4, 4, 16, 17, 17, false}, Heads{2, 2, 18, 9, 9, true},
                               Heads{1, 1, 32, 16, 16, false}, Heads{6, 2, 8, 5, 12, false},
                               Heads{3, 3, 5, 7, 8, false}, Heads{1, 1, 64, 33, 33, true},
                               Heads{4, 2, 64, 1, 9, false}, Heads{4, 1, 12, 20, 20, true},
                               Heads{1, 1, 128, 19, 3, false}, Heads{2, 1, 132, 5, 9, false}}) {
            CAPTURE(setup.name());
            CAPTURE(s.head_dim);
            CAPTURE(s.rows);
            OpBench bench(setup, kMaxItems);
            const std::uint32_t width = s.heads * s.head_dim;
            const std::uint32_t kv_width = s.kv_heads * s.head_dim;
            const Operand q = bench.items(s.rows, width);
            const Operand k = bench.items(s.kv_rows, kv_width);
            const Operand v = bench.items(s.kv_rows, kv_width);
            const Operand y = bench.item_op(OpCode::self_attention, {q, k, v}, s.rows, width);
            bench.set(AttrId::heads, std::int64_t{s.heads});
            bench.set(AttrId::kv_heads, std::int64_t{s.kv_heads});
            bench.set(AttrId::causal, std::int64_t{s.causal});
            bench.set(AttrId::scale, 0.7);
            for (const std::uint32_t items : kItems) {
                const Matrix queries = random_matrix(items * s.rows, width, items);
                const Matrix keys = random_matrix(items * s.kv_rows, kv_width, items + 10);
                const Matrix values = random_matrix(items * s.kv_rows, kv_width, items + 20);
                bench.fill(q, queries);
                bench.fill(k, keys);
                bench.fill(v, values);
                bench.run_items(items);
                CHECK(distance(bench.read(y), attend(s, queries, keys, values, 0.7)) < 2e-6);
            }
        }
    }
}

TEST_CASE("self_attention: a value that is no number reaches no row before its own") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const Heads& s : {Heads{2, 2, 18, 21, 21, true}, Heads{1, 1, 64, 33, 33, true}}) {
            CAPTURE(setup.name());
            CAPTURE(s.head_dim);
            OpBench bench(setup, kMaxItems);
            const std::uint32_t width = s.heads * s.head_dim;
            const Operand q = bench.items(s.rows, width);
            const Operand k = bench.items(s.rows, width);
            const Operand v = bench.items(s.rows, width);
            const Operand y = bench.item_op(OpCode::self_attention, {q, k, v}, s.rows, width);
            bench.set(AttrId::heads, std::int64_t{s.heads});
            bench.set(AttrId::kv_heads, std::int64_t{s.kv_heads});
            bench.set(AttrId::causal, std::int64_t{1});
            bench.set(AttrId::scale, 0.7);
            const Matrix queries = random_matrix(s.rows, width, 1);
            const Matrix keys = random_matrix(s.rows, width, 2);
            for (const float odd : {NAN, INFINITY}) {
                for (const std::uint32_t bad : {s.rows - 1, 13U, 8U}) {
                    CAPTURE(bad);
                    Matrix values = random_matrix(s.rows, width, 3);
                    const Matrix wanted = attend(s, queries, keys, values, 0.7);
                    for (std::uint32_t column = 0; column < width; ++column) {
                        values.data[std::size_t{bad} * width + column] = odd;
                    }
                    bench.fill(q, queries);
                    bench.fill(k, keys);
                    bench.fill(v, values);
                    bench.run_items(1);
                    const Matrix got = bench.read(y);
                    for (std::uint32_t row = 0; row < s.rows; ++row) {
                        CAPTURE(row);
                        const double first = got.at(row, 0);
                        CHECK((row < bad ? std::abs(first - wanted.at(row, 0)) < 2e-6
                                         : !std::isfinite(first)));
                    }
                }
            }
        }
    }
}

TEST_CASE("unfold: patches, overlapping windows, padding") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const Windows& s : {Windows{1, 28, 28, 7, 7, 7, 7, 0, 0},  // a digit's patches
                                 Windows{3, 9, 11, 3, 5, 2, 1, 0, 0},   // overlapping
                                 Windows{2, 12, 20, 4, 4, 3, 5, 1, 2},  // padded
                                 Windows{6, 1, 40, 1, 8, 1, 8, 0, 0},   // of a row of samples
                                 Windows{5, 1, 23, 1, 3, 1, 2, 0, 1}}) {
            CAPTURE(setup.name());
            CAPTURE(s.channels);
            OpBench bench(setup, kMaxItems);
            const Operand x = bench.items(s.channels * s.height, s.width);
            const Operand y = bench.item_op(OpCode::unfold, {x}, s.down() * s.across(),
                                            s.channels * s.kernel_h * s.kernel_w);
            bench.set(AttrId::channels, std::int64_t{s.channels});
            bench.set(AttrId::kernel_h, std::int64_t{s.kernel_h});
            bench.set(AttrId::kernel_w, std::int64_t{s.kernel_w});
            bench.set(AttrId::stride_h, std::int64_t{s.stride_h});
            bench.set(AttrId::stride_w, std::int64_t{s.stride_w});
            bench.set(AttrId::pad_h, std::int64_t{s.pad_h});
            bench.set(AttrId::pad_w, std::int64_t{s.pad_w});
            for (const std::uint32_t items : kItems) {
                const Matrix data = random_matrix(items * s.channels * s.height, s.width, items);
                bench.fill(x, data);
                bench.run_items(items);
                CHECK(distance(bench.read(y), unfolded(s, data, items)) == 0);
            }
        }
    }
}

TEST_CASE("prepend, add of a tensor, mean_rows, select_row: item by item") {
    M4_NEEDS_DEVICE();
    constexpr std::uint32_t kRows = 7;
    constexpr std::uint32_t kAdded = 2;
    for (const Setup& setup : all_setups()) {
        for (const std::uint32_t columns : kWidths) {
            CAPTURE(setup.name());
            CAPTURE(columns);
            const Matrix first = random_matrix(kAdded, columns, 1);
            const Matrix places = random_matrix(kRows + kAdded, columns, 2);
            OpBench bench(setup, kMaxItems);
            const Operand x = bench.items(kRows, columns);
            const Operand longer = bench.item_op(
                OpCode::prepend, {x, bench.tensor(first, M4_DTYPE_F32, M4_LAYOUT_PLAIN)},
                kRows + kAdded, columns);
            const Operand placed = bench.item_op(
                OpCode::add, {longer, bench.tensor(places, M4_DTYPE_F32, M4_LAYOUT_PLAIN)},
                kRows + kAdded, columns);
            const Operand mean = bench.item_op(OpCode::mean_rows, {placed}, 1, columns);
            const Operand chosen = bench.item_op(OpCode::select_row, {placed}, 1, columns);
            bench.set(AttrId::row, std::int64_t{5});
            for (const std::uint32_t items : kItems) {
                const Matrix data = random_matrix(items * kRows, columns, items);
                bench.fill(x, data);
                bench.run_items(items);
                constexpr std::uint32_t kAll = kRows + kAdded;
                const auto joined = [&](std::uint32_t r, std::uint32_t c) {
                    const std::uint32_t row = r % kAll;
                    return row < kAdded ? at(first, row, c)
                                        : at(data, r / kAll * kRows + row - kAdded, c);
                };
                const auto sum = [&](std::uint32_t r, std::uint32_t c) {
                    return static_cast<double>(
                        static_cast<float>(joined(r, c) + at(places, r % kAll, c)));
                };
                CHECK(distance(bench.read(longer), made_of(items * kAll, columns, joined)) == 0);
                CHECK(distance(bench.read(placed), made_of(items * kAll, columns, sum)) == 0);
                CHECK(distance(bench.read(chosen),
                               made_of(items, columns, [&](std::uint32_t r, std::uint32_t c) {
                                   return sum(r * kAll + 5, c);
                               })) == 0);
                CHECK(distance(bench.read(mean),
                               made_of(items, columns, [&](std::uint32_t r, std::uint32_t c) {
                                   double all = 0;
                                   for (std::uint32_t i = 0; i < kAll; ++i) {
                                       all += sum(r * kAll + i, c);
                                   }
                                   return all / kAll;
                               })) < 1e-6);
            }
        }
    }
}

TEST_CASE("l2_norm: also of a row of zeros") {
    M4_NEEDS_DEVICE();
    for (const Setup& setup : all_setups()) {
        for (const std::uint32_t columns : kWidths) {
            CAPTURE(setup.name());
            CAPTURE(columns);
            OpBench bench(setup, kMaxItems);
            const Operand x = bench.items(1, columns);
            const Operand y = bench.item_op(OpCode::l2_norm, {x}, 1, columns);
            bench.set(AttrId::scale, 20.0);
            Matrix data = random_matrix(3, columns, columns);
            std::fill_n(data.data.begin() + columns, columns, 0.0F);
            bench.fill(x, data);
            bench.run_items(3);
            const Matrix expected = made_of(3, columns, [&](std::uint32_t r, std::uint32_t c) {
                double sum = 0;
                for (std::uint32_t i = 0; i < columns; ++i) {
                    sum += at(data, r, i) * at(data, r, i);
                }
                return at(data, r, c) / std::max(std::sqrt(sum), 1e-12) * 20;
            });
            CHECK(distance(bench.read(y), expected) < 2e-6);
        }
    }
}

}  // namespace m4::test
