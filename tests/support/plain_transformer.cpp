// SPDX-License-Identifier: MIT
#include "plain_transformer.hpp"

#include <algorithm>
#include <cmath>

namespace m4::test {

void PlainTensors::add(const std::string& name, const std::vector<std::uint64_t>& shape,
                       float deviation, float mean) {
    std::uint64_t count = 1;
    for (const std::uint64_t side : shape) {
        count *= side;
    }
    std::normal_distribution<float> normal(mean, deviation);
    std::vector<float> values(count);
    std::generate(values.begin(), values.end(), [&] { return normal(random_); });
    tensors_[name] = {shape, std::move(values)};
}

void PlainTensors::add_linear(const std::string& name, std::uint64_t rows, std::uint64_t columns) {
    add(name + ".weight", {rows, columns});
    add(name + ".bias", {rows});
}

void PlainTensors::add_norm(const std::string& name, std::uint64_t width) {
    add(name + ".weight", {width}, 0.2F, 1);
    add(name + ".bias", {width});
}

void PlainTensors::set(const std::string& name, const std::vector<std::uint64_t>& shape,
                       std::vector<float> values) {
    tensors_[name] = {shape, std::move(values)};
}

std::map<std::string, SafeTensor> PlainTensors::checkpoint() const {
    std::map<std::string, SafeTensor> all;
    for (const auto& [name, tensor] : tensors_) {
        all[name] = {"F32", tensor.shape, store_values(tensor.values, Stored::f32)};
    }
    return all;
}

Rows PlainTensors::linear(const Rows& x, const std::string& weight, const std::string& bias) const {
    const auto& w = at(weight);
    Rows out;
    for (const Row& row : x) {
        Row y(w.size() / row.size());
        for (std::size_t i = 0; i < y.size(); ++i) {
            y[i] = bias.empty() ? 0 : at(bias)[i];
            for (std::size_t j = 0; j < row.size(); ++j) {
                y[i] += double{w[i * row.size() + j]} * row[j];
            }
        }
        out.push_back(std::move(y));
    }
    return out;
}

Rows PlainTensors::norm(const Rows& x, const std::string& name, double eps) const {
    Rows out;
    for (const Row& row : x) {
        double mean = 0;
        double square = 0;
        for (const double value : row) {
            mean += value / static_cast<double>(row.size());
        }
        for (const double value : row) {
            square += (value - mean) * (value - mean) / static_cast<double>(row.size());
        }
        Row y(row.size());
        for (std::size_t i = 0; i < row.size(); ++i) {
            y[i] = (row[i] - mean) / std::sqrt(square + eps) * at(name + ".weight")[i] +
                   at(name + ".bias")[i];
        }
        out.push_back(std::move(y));
    }
    return out;
}

Rows PlainTensors::rows(const std::string& name, std::size_t width) const {
    const auto& values = at(name);
    Rows out;
    for (std::size_t first = 0; first < values.size(); first += width) {
        const auto begin = values.begin() + static_cast<std::ptrdiff_t>(first);
        out.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(width));
    }
    return out;
}

Rows plain_attention(const Rows& q, const Rows& k, const Rows& v, std::size_t heads, bool causal) {
    const std::size_t width = q.front().size() / heads;
    Rows out(q.size(), Row(q.front().size()));
    for (std::size_t row = 0; row < q.size(); ++row) {
        for (std::size_t first = 0; first < q.front().size(); first += width) {
            const std::size_t count = causal ? row + 1 : k.size();
            Row weights(count);
            double largest = -HUGE_VAL;
            for (std::size_t i = 0; i < count; ++i) {
                for (std::size_t j = first; j < first + width; ++j) {
                    weights[i] += q[row][j] * k[i][j] / std::sqrt(static_cast<double>(width));
                }
                largest = std::max(largest, weights[i]);
            }
            double sum = 0;
            for (double& weight : weights) {
                weight = std::exp(weight - largest);
                sum += weight;
            }
            for (std::size_t i = 0; i < count; ++i) {
                for (std::size_t j = first; j < first + width; ++j) {
                    out[row][j] += weights[i] / sum * v[i][j];
                }
            }
        }
    }
    return out;
}

Rows plain_sum(const Rows& a, const Rows& b) {
    Rows out = a;
    for (std::size_t row = 0; row < a.size(); ++row) {
        for (std::size_t i = 0; i < a[row].size(); ++i) {
            out[row][i] += b[row][i];
        }
    }
    return out;
}

Rows plain_map(Rows x, double (*function)(double)) {
    for (Row& row : x) {
        std::transform(row.begin(), row.end(), row.begin(), function);
    }
    return x;
}

double plain_gelu(double x) {
    return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
}

double plain_quick_gelu(double x) {
    return x / (1 + std::exp(-1.702 * x));
}

Rows plain_patches(const std::vector<float>& planes, std::size_t channels, std::size_t side,
                   std::size_t patch) {
    Rows out;
    for (std::size_t y = 0; y < side; y += patch) {
        for (std::size_t x = 0; x < side; x += patch) {
            Row row;
            for (std::size_t c = 0; c < channels; ++c) {
                for (std::size_t i = 0; i < patch * patch; ++i) {
                    row.push_back(planes[(c * side + y + i / patch) * side + x + i % patch]);
                }
            }
            out.push_back(std::move(row));
        }
    }
    return out;
}

std::vector<float> plain_floats(const Rows& x) {
    std::vector<float> out;
    for (const Row& row : x) {
        out.insert(out.end(), row.begin(), row.end());
    }
    return out;
}

}  // namespace m4::test
