// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>

#include "tiny_model.hpp"

namespace m4::test {

namespace {

using Row = std::vector<double>;

Row row_of(const std::vector<float>& matrix, std::size_t row, std::size_t columns) {
    const auto* first = matrix.data() + row * columns;
    return {first, first + columns};
}

Row multiply(const std::vector<float>& weight, const std::vector<float>& bias, const Row& x) {
    Row y(weight.size() / x.size());
    for (std::size_t n = 0; n < y.size(); ++n) {
        y[n] = bias.empty() ? 0.0 : static_cast<double>(bias[n]);
        for (std::size_t k = 0; k < x.size(); ++k) {
            y[n] += static_cast<double>(weight[n * x.size() + k]) * x[k];
        }
    }
    return y;
}

Row norm(const std::vector<float>& weight, const Row& x, double eps) {
    double sum = 0.0;
    for (const double value : x) {
        sum += value * value;
    }
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(x.size()) + eps);
    Row y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        y[i] = x[i] * scale * static_cast<double>(weight[i]);
    }
    return y;
}

/// From the angle itself, not from the table: this is what the table must give.
void rotate(const TinyDims& dims, std::size_t position, Row& x) {
    for (std::size_t head = 0; head < x.size(); head += dims.head_dim) {
        for (std::size_t i = 0; i < dims.rotated / 2; ++i) {
            const double angle =
                static_cast<double>(position) *
                std::pow(dims.rope_base, -2.0 * static_cast<double>(i) / dims.rotated);
            double& a = x[head + 2 * i];
            double& b = x[head + 2 * i + 1];
            const double turned = a * std::cos(angle) - b * std::sin(angle);
            b = a * std::sin(angle) + b * std::cos(angle);
            a = turned;
        }
    }
}

/// One query row over the keys and values of all rows up to its own.
Row attend(const TinyDims& dims, const Row& q, const std::vector<Row>& keys,
           const std::vector<Row>& values) {
    Row out(q.size());
    const std::size_t group = dims.heads / dims.kv_heads;
    for (std::size_t head = 0; head < dims.heads; ++head) {
        const std::size_t at = head * dims.head_dim;
        const std::size_t kv_at = head / group * dims.head_dim;
        Row weights(keys.size());
        for (std::size_t t = 0; t < keys.size(); ++t) {
            for (std::size_t i = 0; i < dims.head_dim; ++i) {
                weights[t] += q[at + i] * keys[t][kv_at + i];
            }
            weights[t] /= std::sqrt(static_cast<double>(dims.head_dim));
        }
        const double top = *std::max_element(weights.begin(), weights.end());
        double sum = 0.0;
        for (double& weight : weights) {
            weight = std::exp(weight - top);
            sum += weight;
        }
        for (std::size_t t = 0; t < keys.size(); ++t) {
            for (std::size_t i = 0; i < dims.head_dim; ++i) {
                out[at + i] += weights[t] / sum * values[t][kv_at + i];
            }
        }
    }
    return out;
}

void add(Row& x, const Row& y) {
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] += y[i];
    }
}

Row feed_forward(const TinyDims& dims, const TinyLayer& layer, const Row& x) {
    const Row h = norm(layer.feed_forward_norm, x, dims.eps);
    Row gate = multiply(layer.gate, {}, h);
    const Row up = multiply(layer.up, {}, h);
    for (std::size_t i = 0; i < gate.size(); ++i) {
        gate[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
    }
    return multiply(layer.down, {}, gate);
}

}  // namespace

std::vector<double> reference_logits(const TinyModel& model,
                                     std::span<const std::uint32_t> tokens) {
    const TinyDims& dims = model.dims;
    std::vector<std::vector<Row>> keys(model.layers.size());
    std::vector<std::vector<Row>> values(model.layers.size());
    std::vector<double> logits;
    for (std::size_t position = 0; position < tokens.size(); ++position) {
        Row x = row_of(model.embedding, tokens[position], dims.hidden);
        for (std::size_t i = 0; i < model.layers.size(); ++i) {
            const TinyLayer& layer = model.layers[i];
            const Row h = norm(layer.attention_norm, x, dims.eps);
            Row q = multiply(layer.wq, layer.bq, h);
            Row k = multiply(layer.wk, layer.bk, h);
            rotate(dims, position, q);
            rotate(dims, position, k);
            keys[i].push_back(k);
            values[i].push_back(multiply(layer.wv, layer.bv, h));
            add(x, multiply(layer.wo, {}, attend(dims, q, keys[i], values[i])));
            add(x, feed_forward(dims, layer, x));
        }
        const Row row = multiply(model.output, {}, norm(model.final_norm, x, dims.eps));
        logits.insert(logits.end(), row.begin(), row.end());
    }
    return logits;
}

}  // namespace m4::test
