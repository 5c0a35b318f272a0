// SPDX-License-Identifier: MIT
#include "kwt_graph.hpp"

#include <cmath>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <numbers>
#include <utility>

#include "lib/error.hpp"
#include "tflite.hpp"

namespace m4::firmware {

namespace {

using Shape = std::vector<std::uint64_t>;
using Code = TfliteCode;

// Not in the graph: what KWT was published with.
constexpr std::uint32_t kSampleRate = 16'000;
constexpr float kLowHz = 20;
constexpr float kHighHz = 7600;
constexpr double kTolerance = 1e-5;
constexpr std::uint64_t kSidesMost = 1U << 20U;

constexpr std::int32_t kConstant = -2;  ///< of what take() wants
constexpr std::int32_t kNothing = -1;

/// Goes through the operators in their order. Changes of shape are looked through: a
/// tensor is known by what it was before them.
class Follower {
   public:
    explicit Follower(const TfliteGraph& graph) : graph_(graph) {
        for (std::size_t i = 0; i < graph.tensors.size(); ++i) {
            origin_.push_back(static_cast<std::int32_t>(i));
        }
    }

    /// The next operator is this one, of these tensors; the constants among them are kept.
    /// Returns what it computes.
    std::int32_t take(Code code, std::initializer_list<std::int32_t> wanted) {
        skip_shapes();
        if (at_ == graph_.operators.size() || graph_.operators[at_].code != code) {
            fail("is not what KWT has there");
        }
        const TfliteOperator& op = graph_.operators[at_];
        if (op.activates || op.outputs.size() != 1) {
            fail("has a fused activation, or not one output");
        }
        const bool turned = (code == Code::add || code == Code::mul) && op.inputs.size() == 2 &&
                            !fits(op.inputs[0], wanted.begin()[0]);
        constants_.clear();
        std::size_t slot = 0;
        for (const std::int32_t one : wanted) {
            const std::size_t from = turned ? 1 - slot : slot;
            const std::int32_t input =
                from < op.inputs.size() ? op.inputs[from] : std::int32_t{kNothing};
            if (!fits(input, one)) {
                fail("does not take what KWT gives it there, as input " + std::to_string(slot));
            }
            if (one == kConstant) {
                constants_.push_back(input);
            }
            ++slot;
        }
        if (op.inputs.size() > wanted.size()) {
            fail("has more inputs than KWT gives it");
        }
        ++at_;
        return op.outputs.front();
    }

    /// Whether the next operator is of this code.
    [[nodiscard]] bool comes(Code code) {
        skip_shapes();
        return at_ < graph_.operators.size() && graph_.operators[at_].code == code;
    }
    [[nodiscard]] bool ends() {
        skip_shapes();
        return at_ == graph_.operators.size();
    }

    /// Of the operator that was taken last.
    [[nodiscard]] const TfliteTensor& constant(std::size_t i) const {
        return graph_.tensors[static_cast<std::size_t>(constants_.at(i))];
    }
    [[nodiscard]] std::vector<float> floats(std::size_t i) const {
        const TfliteTensor& tensor = constant(i);
        if (!tensor.is_f32) {
            fail_last("has a constant that is not F32");
        }
        std::vector<float> values(tensor.bytes.size() / sizeof(float));
        std::memcpy(values.data(), tensor.bytes.data(), values.size() * sizeof(float));
        return values;
    }
    [[nodiscard]] std::vector<std::int32_t> integers(std::size_t i) const {
        const TfliteTensor& tensor = constant(i);
        std::vector<std::int32_t> values(tensor.bytes.size() / sizeof(std::int32_t));
        std::memcpy(values.data(), tensor.bytes.data(), values.size() * sizeof(std::int32_t));
        return values;
    }
    [[nodiscard]] float scalar(std::size_t i) const {
        const std::vector<float> values = floats(i);
        if (values.size() != 1) {
            fail_last("has a constant that is not one number");
        }
        return values.front();
    }
    void expect(std::size_t i, double wanted) const {
        if (!(std::abs(scalar(i) - wanted) <= kTolerance)) {
            fail_last("has " + std::to_string(scalar(i)) + " instead of " + std::to_string(wanted));
        }
    }
    void expect(const std::vector<float>& values, const char* what,
                const std::function<double(std::size_t)>& formula) const {
        for (std::size_t i = 0; i < values.size(); ++i) {
            if (!(std::abs(values[i] - formula(i)) <= kTolerance)) {
                fail_last("is not the " + std::string(what) + " that a recipe can say");
            }
        }
    }
    /// Of a tensor as it is, whatever it was before.
    [[nodiscard]] const Shape& shape(std::int32_t tensor) const {
        return graph_.tensors[static_cast<std::size_t>(tensor)].shape;
    }
    /// An input of the operator that was taken last, as it reads it.
    [[nodiscard]] const Shape& input_shape(std::size_t slot) const {
        return shape(graph_.operators[at_ - 1].inputs.at(slot));
    }
    [[noreturn]] void fail_last(const std::string& reason) const {
        throw Error(graph_.place + ": operator " + std::to_string(at_ - 1), reason);
    }

   private:
    [[noreturn]] void fail(const std::string& reason) const {
        const bool over = at_ == graph_.operators.size();
        throw Error(
            graph_.place + ": operator " + std::to_string(at_) +
                (over ? ""
                      : " (code " +
                            std::to_string(static_cast<std::int32_t>(graph_.operators[at_].code)) +
                            ")"),
            over ? "is missing" : reason);
    }

    [[nodiscard]] bool is_constant(std::int32_t tensor) const {
        return !graph_.tensors[static_cast<std::size_t>(tensor)].bytes.empty();
    }
    [[nodiscard]] bool fits(std::int32_t input, std::int32_t wanted) const {
        if (wanted == kNothing || input == kNothing) {
            return input == wanted;
        }
        if (wanted == kConstant) {
            return is_constant(input);
        }
        return origin_[static_cast<std::size_t>(input)] ==
               origin_[static_cast<std::size_t>(wanted)];
    }

    void skip_shapes() {
        for (; at_ < graph_.operators.size(); ++at_) {
            const TfliteOperator& op = graph_.operators[at_];
            if ((op.code != Code::reshape && op.code != Code::transpose) || op.inputs.empty() ||
                op.inputs[0] < 0 || op.outputs.size() != 1) {
                return;
            }
            origin_[static_cast<std::size_t>(op.outputs[0])] =
                origin_[static_cast<std::size_t>(op.inputs[0])];
        }
    }

    const TfliteGraph& graph_;
    std::vector<std::int32_t> origin_;
    std::vector<std::int32_t> constants_;
    std::size_t at_ = 0;
};

class KwtReader {
   public:
    KwtReader(const TfliteGraph& graph, std::shared_ptr<Checkpoint> checkpoint)
        : graph_(graph), follow_(graph), checkpoint_(std::move(checkpoint)) {}

    KwtModel read() {
        if (graph_.inputs.size() != 1 || graph_.outputs.size() != 1) {
            throw Error(graph_.place, "has not one input and one output");
        }
        std::int32_t x = front_end(graph_.inputs[0]);
        x = stem(x);
        while (!follow_.comes(Code::strided_slice)) {
            x = block(x, "blocks." + std::to_string(model_.blocks) + ".");
            ++model_.blocks;
        }
        x = follow_.take(Code::strided_slice, {x, kConstant, kConstant, kConstant});
        const std::vector<std::int32_t> begin = follow_.integers(0);
        if (begin != std::vector<std::int32_t>(3, 0)) {
            follow_.fail_last("does not pick the first row");
        }
        const std::int32_t scores = follow_.take(Code::fully_connected, {x, kConstant, kConstant});
        model_.labels = rows_of(0);
        keep("head.weight", 0, {model_.labels, model_.width});
        keep("head.bias", 1, {model_.labels});
        if (!follow_.ends() || scores != graph_.outputs[0]) {
            throw Error(graph_.place, "goes on behind KWT's classifier");
        }
        model_.checkpoint = checkpoint_;
        return std::move(model_);
    }

   private:
    /// A constant of the operator that was taken last, in another form of as many elements.
    void keep(const std::string& name, std::size_t constant, Shape shape) {
        const TfliteTensor& from = follow_.constant(constant);
        (void)follow_.floats(constant);
        SourceTensor tensor;
        tensor.name = name;
        tensor.file = graph_.place;
        tensor.type_name = "F32";
        tensor.type = SourceType::f32;
        tensor.shape = std::move(shape);
        tensor.bytes = from.bytes;
        checkpoint_->add(std::move(tensor));
    }

    [[nodiscard]] std::uint32_t rows_of(std::size_t constant) const {
        const Shape& shape = follow_.constant(constant).shape;
        if (shape.size() != 2 || shape[0] > kSidesMost || shape[1] > kSidesMost) {
            follow_.fail_last("has a weight that is no matrix of at most 2^20 a side");
        }
        return static_cast<std::uint32_t>(shape[0]);
    }

    std::int32_t frames(std::int32_t x) {
        AudioRecipe& recipe = model_.recipe;
        x = follow_.take(Code::strided_slice, {x, kConstant, kConstant, kConstant});
        recipe.clip_samples = static_cast<std::uint32_t>(
            checked_element_count(follow_.shape(x), graph_.place + ": clip"));
        x = follow_.take(Code::gather, {x, kConstant});
        const std::vector<std::int32_t> places = follow_.integers(0);
        const Shape& shape = follow_.constant(0).shape;
        const Shape& pieces = follow_.input_shape(0);
        if (shape.size() != 2 || places.size() != shape[0] * shape[1] || pieces.size() != 3 ||
            shape[0] + shape[1] - 1 > pieces[1] || recipe.clip_samples > kSidesMost ||
            pieces[1] * pieces[2] != recipe.clip_samples) {
            follow_.fail_last("does not cut frames out of a clip");
        }
        for (std::size_t i = 0; i < places.size(); ++i) {
            if (places[i] != static_cast<std::int32_t>(i / shape[1] + i % shape[1])) {
                follow_.fail_last("does not cut frames out of a clip");
            }
        }
        recipe.frames = static_cast<std::uint32_t>(shape[0]);
        recipe.frame_shift = static_cast<std::uint32_t>(pieces[2]);
        recipe.frame_samples = static_cast<std::uint32_t>(shape[1] * pieces[2]);
        return x;
    }

    /// One of the two sums of a Fourier transform.
    std::int32_t transform(std::int32_t x, const char* what, double (*wave)(double)) {
        const std::int32_t out = follow_.take(Code::fully_connected, {x, kConstant, kNothing});
        const std::uint64_t columns = model_.recipe.frame_samples;
        const std::uint64_t fft = model_.recipe.fft_samples;
        const std::uint64_t rows = rows_of(0);
        if (follow_.constant(0).shape[1] != columns || rows > fft / 2 + 1) {
            follow_.fail_last("is not a transform of " + std::to_string(columns) + " samples");
        }
        follow_.expect(follow_.floats(0), what, [&](std::size_t i) {
            const double turns = static_cast<double>(i / columns * (i % columns) % fft);
            return wave(2 * std::numbers::pi * turns / static_cast<double>(fft));
        });
        return follow_.take(Code::mul, {out, out});
    }

    void expect_mel() {
        AudioRecipe& recipe = model_.recipe;
        recipe.mel_bins = rows_of(0);
        const std::uint64_t columns = follow_.constant(0).shape[1];
        const auto mel = [](double hz) { return 1127 * std::log1p(hz / 700); };
        const double low = mel(kLowHz);
        const double step = (mel(kHighHz) - low) / (recipe.mel_bins + 1);
        const double hz = double{kSampleRate} / recipe.fft_samples;
        follow_.expect(follow_.floats(0), "mel filter bank", [&](std::size_t i) {
            const double at = mel(hz * static_cast<double>(i % columns)) - low;
            const double place = at / step - static_cast<double>(i / columns);
            return std::max(0.0, std::min(place, 2 - place));
        });
    }

    std::int32_t front_end(std::int32_t x) {
        AudioRecipe& recipe = model_.recipe;
        recipe.sample_rate = kSampleRate;
        recipe.low_hz = kLowHz;
        recipe.high_hz = kHighHz;
        recipe.power = 1;
        recipe.window = WindowKind::hann_periodic;
        recipe.mel_scale = MelScale::htk;
        recipe.log = LogKind::natural;
        recipe.frames_first = true;
        x = frames(x);
        for (recipe.fft_samples = 1; recipe.fft_samples < recipe.frame_samples;) {
            recipe.fft_samples *= 2;
        }
        x = follow_.take(Code::mul, {x, kConstant});
        if (follow_.floats(0).size() != recipe.frame_samples) {
            follow_.fail_last("is not a window of a frame");
        }
        follow_.expect(follow_.floats(0), "window", [&](std::size_t i) {
            return (1 - std::cos(2 * std::numbers::pi * static_cast<double>(i) /
                                 recipe.frame_samples)) /
                   2;
        });
        const std::int32_t real =
            transform(x, "Fourier transform", [](double a) { return std::cos(a); });
        const std::int32_t other =
            transform(x, "Fourier transform", [](double a) { return -std::sin(a); });
        x = follow_.take(Code::sqrt, {follow_.take(Code::add, {real, other})});
        x = follow_.take(Code::fully_connected, {x, kConstant, kNothing});
        expect_mel();
        x = follow_.take(Code::maximum, {x, kConstant});
        recipe.log_floor = follow_.scalar(0);
        x = follow_.take(Code::log, {x});
        return coefficients(x);
    }

    /// The transform is orthonormal but for its first row, which is longer by sqrt(2).
    std::int32_t coefficients(std::int32_t x) {
        AudioRecipe& recipe = model_.recipe;
        x = follow_.take(Code::fully_connected, {x, kConstant, kNothing});
        recipe.coefficients = rows_of(0);
        const std::uint64_t bins = recipe.mel_bins;
        if (follow_.constant(0).shape[1] != bins || recipe.coefficients > bins) {
            follow_.fail_last("is not a cosine transform of mel bins");
        }
        follow_.expect(follow_.floats(0), "cosine transform", [&](std::size_t i) {
            const auto row = static_cast<double>(i / bins);
            const double place = (static_cast<double>(i % bins) + 0.5) / static_cast<double>(bins);
            return std::sqrt(2.0 / static_cast<double>(bins)) *
                   std::cos(std::numbers::pi * row * place);
        });
        x = follow_.take(Code::sub, {x, kConstant});
        follow_.expect(0, 0);
        x = follow_.take(Code::mul, {x, kConstant});
        model_.column_scale = follow_.floats(0);
        if (model_.column_scale.size() != recipe.coefficients) {
            follow_.fail_last("does not scale " + std::to_string(recipe.coefficients) + " columns");
        }
        model_.column_scale[0] *= std::numbers::sqrt2_v<float>;
        return x;
    }

    std::int32_t stem(std::int32_t x) {
        x = follow_.take(Code::fully_connected, {x, kConstant, kConstant});
        model_.width = rows_of(0);
        keep("dense.weight", 0, {model_.width, model_.recipe.coefficients});
        keep("dense.bias", 1, {model_.width});
        x = follow_.take(Code::concatenation, {kConstant, x});
        keep("class_token", 0, {1, model_.width});
        x = follow_.take(Code::add, {x, kConstant});
        keep("positions", 0, {model_.recipe.frames + 1, model_.width});
        return x;
    }

    std::int32_t project(std::int32_t x, const std::string& name) {
        x = follow_.take(Code::fully_connected, {x, kConstant, kNothing});
        keep(name, 0, {model_.width, model_.width});
        return x;
    }

    std::int32_t attention(std::int32_t x, const std::string& at) {
        const Shape by_row = {std::uint64_t{model_.recipe.frames} + 1, model_.width};
        const std::int32_t q = project(x, at + "query.weight");
        const std::int32_t k = project(x, at + "key.weight");
        std::int32_t y = follow_.take(Code::fully_connected, {q, k, kNothing});
        if (follow_.input_shape(0) != by_row || follow_.input_shape(1) != by_row) {
            follow_.fail_last("is not the product of queries and keys of one head");
        }
        y = follow_.take(Code::mul, {y, kConstant});
        follow_.expect(0, 1 / std::sqrt(static_cast<double>(model_.width)));
        const std::int32_t shares = follow_.take(Code::softmax, {y});
        const std::int32_t v = project(x, at + "value.weight");
        y = follow_.take(Code::fully_connected, {shares, v, kNothing});
        if (follow_.input_shape(1) != Shape{by_row[1], by_row[0]}) {
            follow_.fail_last("is not the product of attention and values of one head");
        }
        y = follow_.take(Code::fully_connected, {y, kConstant, kConstant});
        keep(at + "out.weight", 0, {model_.width, model_.width});
        keep(at + "out.bias", 1, {model_.width});
        return y;
    }

    /// By tanh, spelt out.
    std::int32_t gelu(std::int32_t x) {
        std::int32_t y = follow_.take(Code::pow, {x, kConstant});
        follow_.expect(0, 3);
        y = follow_.take(Code::mul, {y, kConstant});
        follow_.expect(0, 0.044715);
        y = follow_.take(Code::add, {x, y});
        y = follow_.take(Code::mul, {y, kConstant});
        follow_.expect(0, std::sqrt(2 / std::numbers::pi));
        y = follow_.take(Code::tanh, {y});
        y = follow_.take(Code::add, {y, kConstant});
        follow_.expect(0, 1);
        const std::int32_t half = follow_.take(Code::mul, {x, kConstant});
        follow_.expect(0, 0.5);
        return follow_.take(Code::mul, {half, y});
    }

    std::int32_t norm(std::int32_t x, const std::string& name) {
        const std::int32_t mean = follow_.take(Code::mean, {x, kConstant});
        if (follow_.integers(0) != std::vector<std::int32_t>{2}) {
            follow_.fail_last("is not the mean of a row");
        }
        std::int32_t y = follow_.take(Code::squared_difference, {x, mean});
        y = follow_.take(Code::mean, {y, kConstant});
        if (follow_.integers(0) != std::vector<std::int32_t>{2}) {
            follow_.fail_last("is not the mean of a row");
        }
        y = follow_.take(Code::add, {y, kConstant});
        const double eps = follow_.scalar(0);
        if (model_.eps != 0 && eps != model_.eps) {
            follow_.fail_last("has another eps than the norms before");
        }
        model_.eps = eps;
        y = follow_.take(Code::rsqrt, {y});
        y = follow_.take(Code::mul, {y, kConstant});
        keep(name + ".weight", 0, {model_.width});
        const std::int32_t scaled = follow_.take(Code::mul, {x, y});
        const std::int32_t shift = follow_.take(Code::mul, {mean, y});
        const std::int32_t rest = follow_.take(Code::sub, {kConstant, shift});
        keep(name + ".bias", 0, {model_.width});
        return follow_.take(Code::add, {scaled, rest});
    }

    std::int32_t block(std::int32_t x, const std::string& at) {
        x = norm(follow_.take(Code::add, {x, attention(x, at)}), at + "norm1");
        std::int32_t y = follow_.take(Code::fully_connected, {x, kConstant, kConstant});
        model_.inner_width = rows_of(0);
        keep(at + "up.weight", 0, {model_.inner_width, model_.width});
        keep(at + "up.bias", 1, {model_.inner_width});
        y = follow_.take(Code::fully_connected, {gelu(y), kConstant, kConstant});
        keep(at + "down.weight", 0, {model_.width, model_.inner_width});
        keep(at + "down.bias", 1, {model_.width});
        return norm(follow_.take(Code::add, {x, y}), at + "norm2");
    }

    const TfliteGraph& graph_;
    Follower follow_;
    std::shared_ptr<Checkpoint> checkpoint_;
    KwtModel model_;
};

}  // namespace

KwtModel read_kwt(std::span<const std::byte> bytes, const std::string& place) {
    const TfliteGraph graph = read_tflite(bytes, place);
    return KwtReader(graph, std::make_shared<Checkpoint>(place)).read();
}

KwtModel read_kwt(const std::filesystem::path& file) {
    auto checkpoint = std::make_shared<Checkpoint>(file.string());
    const TfliteGraph graph = read_tflite(checkpoint->adopt(MappedFile(file)), file.string());
    return KwtReader(graph, checkpoint).read();
}

}  // namespace m4::firmware
