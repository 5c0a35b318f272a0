// SPDX-License-Identifier: MIT
#include "kwt_writer.hpp"

#include <tflite_generated.h>
#include <importers/tflite.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace m4::test {

namespace {

using Code = firmware::TfliteCode;
namespace fb = m4::tflite;

constexpr double kPi = std::numbers::pi;
constexpr double kRate = 16'000;
constexpr double kLowHz = 20;
constexpr double kHighHz = 7600;
constexpr float kFloor = 1e-12F;
constexpr double kEps = 1e-6;

std::size_t fft_of(const KwtSizes& sizes) {
    std::size_t fft = 1;
    while (fft < sizes.frame()) {
        fft *= 2;
    }
    return fft;
}

double window_of(const KwtSizes& sizes, std::size_t i) {
    return 0.5 -
           0.5 * std::cos(2 * kPi * static_cast<double>(i) / static_cast<double>(sizes.frame()));
}

double mel_weight(const KwtSizes& sizes, std::size_t band, std::size_t bin) {
    const auto mel = [](double hz) { return 1127 * std::log(1 + hz / 700); };
    const auto edge = [&](std::size_t i) {
        return mel(kLowHz) + (mel(kHighHz) - mel(kLowHz)) * static_cast<double>(i) /
                                 static_cast<double>(sizes.mel_bins + 1);
    };
    const double at = mel(static_cast<double>(bin) * kRate / static_cast<double>(fft_of(sizes)));
    const double up = (at - edge(band)) / (edge(band + 1) - edge(band));
    const double down = (edge(band + 2) - at) / (edge(band + 2) - edge(band + 1));
    return std::max(0.0, std::min(up, down));
}

double cosine(const KwtSizes& sizes, std::size_t row, std::size_t column) {
    const auto count = static_cast<double>(sizes.mel_bins);
    return std::sqrt(2 / count) *
           std::cos(kPi / count * static_cast<double>(row) * (static_cast<double>(column) + 0.5));
}

template <typename Formula>
std::vector<float> filled(std::size_t rows, std::size_t columns, const Formula& formula) {
    std::vector<float> values;
    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column = 0; column < columns; ++column) {
            values.push_back(static_cast<float>(formula(row, column)));
        }
    }
    return values;
}

using Shape = std::vector<std::int32_t>;

Shape shape_of(std::initializer_list<std::size_t> sides) {
    Shape shape;
    for (const std::size_t side : sides) {
        shape.push_back(static_cast<std::int32_t>(side));
    }
    return shape;
}

/// Tensors, operators and buffers of a graph, one after the other.
class GraphWriter {
   public:
    explicit GraphWriter(bool activated) : activated_(activated) {
        buffers_.push_back(fb::CreateBuffer(builder_));  // of what is computed
    }

    std::int32_t value(const Shape& shape) { return tensor(shape, fb::ElementType::float32, 0); }
    std::int32_t floats(const Shape& shape, const std::vector<float>& values) {
        return constant(shape, fb::ElementType::float32, values);
    }
    std::int32_t integers(const std::vector<std::int32_t>& values, Shape shape = {}) {
        if (shape.empty()) {
            shape = shape_of({values.size()});
        }
        return constant(shape, static_cast<fb::ElementType>(2), values);
    }
    std::int32_t number(float value) { return floats({}, {value}); }

    std::int32_t op(Code code, const std::vector<std::int32_t>& inputs, const Shape& shape) {
        const std::int32_t out = value(shape);
        const auto known = std::find(codes_.begin(), codes_.end(), code);
        const auto index = static_cast<std::uint32_t>(known - codes_.begin());
        if (known == codes_.end()) {
            codes_.push_back(code);
        }
        const bool may = code == Code::fully_connected;
        const auto options =
            may ? fb::CreateOptions(builder_, static_cast<std::int8_t>(activated_ ? 1 : 0))
                : flatbuffers::Offset<fb::Options>();
        operators_.push_back(fb::CreateOperator(
            builder_, index, builder_.CreateVector(inputs),
            builder_.CreateVector(std::vector<std::int32_t>{out}), may ? 8 : 0, options));
        return out;
    }

    std::string finish(std::int32_t input, std::int32_t output) {
        const auto graph =
            fb::CreateSubGraph(builder_, builder_.CreateVector(tensors_),
                               builder_.CreateVector(std::vector<std::int32_t>{input}),
                               builder_.CreateVector(std::vector<std::int32_t>{output}),
                               builder_.CreateVector(operators_));
        std::vector<flatbuffers::Offset<fb::OperatorCode>> codes;
        for (const Code code : codes_) {
            codes.push_back(fb::CreateOperatorCode(builder_, static_cast<std::int8_t>(code), 0, 1,
                                                   static_cast<std::int32_t>(code)));
        }
        const std::vector<flatbuffers::Offset<fb::SubGraph>> graphs = {graph};
        fb::FinishModelBuffer(builder_, fb::CreateModel(builder_, 3, builder_.CreateVector(codes),
                                                        builder_.CreateVector(graphs), 0,
                                                        builder_.CreateVector(buffers_)));
        return {reinterpret_cast<const char*>(builder_.GetBufferPointer()), builder_.GetSize()};
    }

   private:
    std::int32_t tensor(const Shape& shape, fb::ElementType type, std::uint32_t buffer) {
        const auto name = builder_.CreateString("tensor " + std::to_string(tensors_.size()));
        tensors_.push_back(
            fb::CreateTensor(builder_, builder_.CreateVector(shape), type, buffer, name));
        return static_cast<std::int32_t>(tensors_.size()) - 1;
    }
    template <typename T>
    std::int32_t constant(const Shape& shape, fb::ElementType type, const std::vector<T>& values) {
        builder_.ForceVectorAlignment(values.size() * sizeof(T), 1, 16);
        const auto data = builder_.CreateVector(
            reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(T));
        buffers_.push_back(fb::CreateBuffer(builder_, data));
        return tensor(shape, type, static_cast<std::uint32_t>(buffers_.size()) - 1);
    }

    bool activated_;
    flatbuffers::FlatBufferBuilder builder_;
    std::vector<flatbuffers::Offset<fb::Buffer>> buffers_;
    std::vector<flatbuffers::Offset<fb::Tensor>> tensors_;
    std::vector<flatbuffers::Offset<fb::Operator>> operators_;
    std::vector<Code> codes_;
};

class KwtWriter {
   public:
    KwtWriter(const KwtSizes& sizes, const PlainTensors& tensors, const KwtFaults& faults)
        : sizes_(sizes),
          tensors_(tensors),
          faults_(faults),
          graph_(faults.fused_activation),
          rows_(sizes.frames() + 1) {}

    std::string write() {
        const std::int32_t input = graph_.value(shape_of({1, sizes_.samples}));
        std::int32_t x = features(input);
        x = linear(x, "dense", sizes_.frames(), sizes_.coefficients, sizes_.width);
        x = graph_.op(Code::reshape, {x, graph_.integers({1, -1, 1})},
                      shape_of({1, sizes_.frames(), sizes_.width}));
        x = graph_.op(
            Code::concatenation,
            {graph_.floats(shape_of({1, 1, sizes_.width}), tensors_.at("class_token")), x},
            by_row());
        x = graph_.op(Code::add, {x, graph_.floats(by_row(), tensors_.at("positions"))}, by_row());
        for (std::size_t i = 0; i < sizes_.blocks; ++i) {
            x = block(x, "blocks." + std::to_string(i) + ".");
        }
        x = graph_.op(Code::strided_slice,
                      {x, graph_.integers({0, 0, 0}),
                       graph_.integers({0, 1, static_cast<std::int32_t>(sizes_.width)}),
                       graph_.integers({1, 1, 1})},
                      shape_of({1, sizes_.width}));
        x = linear(x, "head", 1, sizes_.width, sizes_.labels);
        return graph_.finish(input, x);
    }

   private:
    [[nodiscard]] Shape by_row() const { return shape_of({1, rows_, sizes_.width}); }

    std::int32_t multiply(std::int32_t x, const std::vector<float>& matrix, std::size_t count,
                          std::size_t columns, std::int32_t bias = -1) {
        const std::size_t rows = matrix.size() / columns;
        return graph_.op(Code::fully_connected,
                         {x, graph_.floats(shape_of({rows, columns}), matrix), bias},
                         shape_of({count, rows}));
    }

    std::int32_t linear(std::int32_t x, const std::string& name, std::size_t count,
                        std::size_t columns, std::size_t rows) {
        const std::int32_t bias = graph_.floats(shape_of({rows}), tensors_.at(name + ".bias"));
        return multiply(x, tensors_.at(name + ".weight"), count, columns, bias);
    }

    std::int32_t features(std::int32_t x) {
        const std::size_t frames = sizes_.frames();
        const std::size_t frame = sizes_.frame();
        x = graph_.op(Code::strided_slice,
                      {x, graph_.integers({0, 0}),
                       graph_.integers({1, static_cast<std::int32_t>(sizes_.samples)}),
                       graph_.integers({1, 1})},
                      shape_of({1, sizes_.samples}));
        x = graph_.op(Code::reshape, {x, graph_.integers({1, -1, 1})},
                      shape_of({1, sizes_.samples / sizes_.shift, sizes_.shift}));
        std::vector<std::int32_t> places;
        for (std::size_t i = 0; i < frames * sizes_.pieces; ++i) {
            places.push_back(static_cast<std::int32_t>(i / sizes_.pieces + i % sizes_.pieces));
        }
        x = graph_.op(Code::gather, {x, graph_.integers(places, shape_of({frames, sizes_.pieces}))},
                      shape_of({1, frames, sizes_.pieces, sizes_.shift}));
        x = graph_.op(Code::reshape, {x, graph_.integers({1, -1, 1})},
                      shape_of({1, frames, frame}));
        const auto window = filled(1, frame, [&](std::size_t, std::size_t i) {
            return window_of(sizes_, i) * (faults_.other_window ? 0.99 : 1);
        });
        x = graph_.op(Code::mul, {x, graph_.floats(shape_of({frame}), window)},
                      shape_of({1, frames, frame}));
        const double step = 2 * kPi / static_cast<double>(fft_of(sizes_));
        const auto squared = [&](double (*wave)(double)) {
            const auto matrix = filled(sizes_.bins, frame, [&](std::size_t row, std::size_t i) {
                return wave(step * static_cast<double>(row * i));
            });
            const std::int32_t sum = multiply(x, matrix, frames, frame);
            return graph_.op(Code::mul, {sum, sum}, shape_of({frames, sizes_.bins}));
        };
        const std::int32_t real = squared([](double angle) { return std::cos(angle); });
        const std::int32_t other = squared([](double angle) { return -std::sin(angle); });
        x = graph_.op(Code::add, {real, other}, shape_of({frames, sizes_.bins}));
        x = graph_.op(Code::sqrt, {x}, shape_of({frames, sizes_.bins}));
        x = multiply(
            x,
            filled(sizes_.mel_bins, sizes_.bins,
                   [&](std::size_t row, std::size_t i) { return mel_weight(sizes_, row, i); }),
            frames, sizes_.bins);
        const Shape mel = shape_of({frames, sizes_.mel_bins});
        x = graph_.op(Code::maximum, {x, graph_.number(kFloor)}, mel);
        x = graph_.op(Code::log, {x}, mel);
        x = multiply(x,
                     filled(sizes_.coefficients, sizes_.mel_bins,
                            [&](std::size_t row, std::size_t i) { return cosine(sizes_, row, i); }),
                     frames, sizes_.mel_bins);
        const Shape out = shape_of({frames, sizes_.coefficients});
        x = graph_.op(Code::sub, {x, graph_.number(0)}, out);
        return graph_.op(Code::mul,
                         {x, graph_.floats(shape_of({sizes_.coefficients}),
                                           std::vector<float>(sizes_.coefficients, 1))},
                         out);
    }

    std::int32_t turned(std::int32_t x) {
        return graph_.op(Code::transpose, {x, graph_.integers({1, 0})},
                         shape_of({sizes_.width, rows_}));
    }

    std::int32_t block(std::int32_t x, const std::string& at) {
        const std::size_t width = sizes_.width;
        const auto project = [&](const char* name) {
            return multiply(x, tensors_.at(at + name + ".weight"), rows_, width);
        };
        const std::int32_t q = project("query");
        const std::int32_t k = project("key");
        std::int32_t y = graph_.op(Code::fully_connected, {q, k, -1}, shape_of({rows_, rows_}));
        const auto scale = 1 / std::sqrt(static_cast<float>(width));
        y = graph_.op(Code::mul, {y, graph_.number(faults_.other_scale ? 1 : scale)},
                      shape_of({rows_, rows_}));
        y = graph_.op(Code::softmax, {y}, shape_of({rows_, rows_}));
        const std::int32_t v = project("value");
        y = graph_.op(Code::fully_connected, {y, turned(faults_.swapped_values ? k : v), -1},
                      shape_of({rows_, width}));
        y = linear(y, at + "out", rows_, width, width);
        y = graph_.op(Code::reshape, {y, graph_.integers({1, -1, 1})}, by_row());
        x = norm(graph_.op(Code::add, {x, y}, by_row()), at + "norm1");
        y = gelu(linear(x, at + "up", rows_, width, sizes_.inner));
        y = linear(y, at + "down", rows_, sizes_.inner, width);
        return norm(graph_.op(Code::add, {x, y}, by_row()), at + "norm2");
    }

    std::int32_t gelu(std::int32_t x) {
        const Shape shape = shape_of({1, rows_, sizes_.inner});
        const auto with = [&](Code code, std::int32_t y, double number) {
            return graph_.op(code, {y, graph_.number(static_cast<float>(number))}, shape);
        };
        std::int32_t y = with(Code::mul, with(Code::pow, x, 3), 0.044715);
        y = graph_.op(Code::add, {x, y}, shape);
        y = with(Code::mul, y, std::sqrt(2 / kPi));
        if (!faults_.tanh_left_out) {
            y = graph_.op(Code::tanh, {y}, shape);
        }
        y = with(Code::add, y, 1);
        return graph_.op(Code::mul, {with(Code::mul, x, 0.5), y}, shape);
    }

    std::int32_t norm(std::int32_t x, const std::string& name) {
        const Shape one = shape_of({1, rows_, 1});
        const Shape vector = shape_of({sizes_.width});
        const std::int32_t mean = graph_.op(Code::mean, {x, graph_.integers({2})}, one);
        std::int32_t y = graph_.op(Code::squared_difference, {x, mean}, by_row());
        y = graph_.op(Code::mean, {y, graph_.integers({2})}, one);
        y = graph_.op(Code::add, {y, graph_.number(static_cast<float>(kEps))}, one);
        y = graph_.op(Code::rsqrt, {y}, one);
        y = graph_.op(Code::mul, {y, graph_.floats(vector, tensors_.at(name + ".weight"))},
                      by_row());
        const std::int32_t scaled = graph_.op(Code::mul, {x, y}, by_row());
        const std::int32_t shift = graph_.op(Code::mul, {mean, y}, by_row());
        y = graph_.op(Code::sub, {graph_.floats(vector, tensors_.at(name + ".bias")), shift},
                      by_row());
        return graph_.op(Code::add, {scaled, y}, by_row());
    }

    const KwtSizes& sizes_;
    const PlainTensors& tensors_;
    const KwtFaults& faults_;
    GraphWriter graph_;
    std::size_t rows_;
};

}  // namespace

KwtSizes published_kwt() {
    return {.samples = 16'000,
            .shift = 160,
            .pieces = 3,
            .bins = 244,
            .mel_bins = 80,
            .coefficients = 40,
            .width = 64,
            .inner = 256,
            .blocks = 12,
            .labels = 12};
}

PlainTensors random_kwt(const KwtSizes& sizes, std::uint32_t seed) {
    PlainTensors tensors(seed);
    tensors.add_linear("dense", sizes.width, sizes.coefficients);
    tensors.add("class_token", {1, sizes.width});
    tensors.add("positions", {sizes.frames() + 1, sizes.width});
    for (std::size_t i = 0; i < sizes.blocks; ++i) {
        const std::string at = "blocks." + std::to_string(i) + ".";
        for (const char* name : {"query", "key", "value"}) {
            tensors.add(at + name + ".weight", {sizes.width, sizes.width});
        }
        tensors.add_linear(at + "out", sizes.width, sizes.width);
        tensors.add_norm(at + "norm1", sizes.width);
        tensors.add_linear(at + "up", sizes.inner, sizes.width);
        tensors.add_linear(at + "down", sizes.width, sizes.inner);
        tensors.add_norm(at + "norm2", sizes.width);
    }
    tensors.add_linear("head", sizes.labels, sizes.width);
    return tensors;
}

std::string kwt_tflite(const KwtSizes& sizes, const PlainTensors& tensors,
                       const KwtFaults& faults) {
    return KwtWriter(sizes, tensors, faults).write();
}

Rows kwt_front_end(const KwtSizes& sizes, const std::vector<float>& samples) {
    const std::size_t fft = fft_of(sizes);
    Rows out;
    for (std::size_t frame = 0; frame < sizes.frames(); ++frame) {
        Row magnitudes(sizes.bins);
        for (std::size_t bin = 0; bin < sizes.bins; ++bin) {
            double real = 0;
            double other = 0;
            for (std::size_t i = 0; i < sizes.frame(); ++i) {
                const double value = window_of(sizes, i) * samples[frame * sizes.shift + i];
                const double angle =
                    2 * kPi * static_cast<double>(bin * i % fft) / static_cast<double>(fft);
                real += value * std::cos(angle);
                other += value * std::sin(angle);
            }
            magnitudes[bin] = std::sqrt(real * real + other * other);
        }
        Row logs;
        for (std::size_t band = 0; band < sizes.mel_bins; ++band) {
            double sum = 0;
            for (std::size_t bin = 0; bin < sizes.bins; ++bin) {
                sum += mel_weight(sizes, band, bin) * magnitudes[bin];
            }
            logs.push_back(std::log(std::max(sum, double{kFloor})));
        }
        Row row(sizes.coefficients);
        for (std::size_t i = 0; i < sizes.coefficients; ++i) {
            for (std::size_t band = 0; band < sizes.mel_bins; ++band) {
                row[i] += cosine(sizes, i, band) * logs[band];
            }
        }
        out.push_back(std::move(row));
    }
    return out;
}

std::vector<float> kwt_features(const KwtSizes& sizes, const std::vector<float>& samples) {
    Rows rows = kwt_front_end(sizes, samples);
    for (Row& row : rows) {
        row[0] /= std::sqrt(2.0);
    }
    return plain_floats(rows);
}

std::vector<float> kwt_scores(const KwtSizes& sizes, const PlainTensors& tensors,
                              const Rows& front_end) {
    Rows x = tensors.rows("class_token", sizes.width);
    for (Row& row : tensors.linear(front_end, "dense.weight", "dense.bias")) {
        x.push_back(std::move(row));
    }
    x = plain_sum(x, tensors.rows("positions", sizes.width));
    for (std::size_t i = 0; i < sizes.blocks; ++i) {
        const std::string at = "blocks." + std::to_string(i) + ".";
        const auto apply = [&](const Rows& in, const std::string& name, bool bias) {
            return tensors.linear(in, at + name + ".weight", bias ? at + name + ".bias" : "");
        };
        Rows y = plain_attention(apply(x, "query", false), apply(x, "key", false),
                                 apply(x, "value", false), 1, false);
        x = tensors.norm(plain_sum(x, apply(y, "out", true)), at + "norm1", kEps);
        y = plain_map(apply(x, "up", true), [](double value) {
            return value / 2 *
                   (1 + std::tanh(std::sqrt(2 / kPi) * (value + 0.044715 * value * value * value)));
        });
        x = tensors.norm(plain_sum(x, apply(y, "down", true)), at + "norm2", kEps);
    }
    return plain_floats(tensors.linear({x.front()}, "head.weight", "head.bias"));
}

}  // namespace m4::test
