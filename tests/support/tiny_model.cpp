// SPDX-License-Identifier: MIT
#include "tiny_model.hpp"

#include <tokenizer_generated.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "lib/builder.hpp"
#include "lib/fusion.hpp"
#include "lib/half.hpp"
#include "lib/quant.hpp"

namespace m4::test {

namespace {

using firmware::AttrId;
using firmware::ImageBuilder;
using firmware::OpCode;
using firmware::Operand;
using firmware::OperandKind;
using firmware::Role;
using firmware::Symbol;

constexpr std::uint32_t kBytePieces = 256;
constexpr std::uint32_t kSpecialPieces = 3;  // unknown, begin, end

/// Uniform numbers that do not depend on the standard library's distributions.
class Random {
   public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}

    std::vector<float> fill(std::size_t count, double middle, double spread) {
        std::vector<float> out(count);
        for (float& value : out) {
            const double unit = static_cast<double>(engine_() >> 11U) * 0x1p-53;
            value = static_cast<float>(middle + spread * (2.0 * unit - 1.0));
        }
        return out;
    }

   private:
    std::mt19937_64 engine_;
};

/// The numbers as a matrix of this type keeps them; quantised: rows of whole
/// blocks.
std::vector<float> as_stored(std::vector<float> values, m4_dtype dtype) {
    if (dtype == M4_DTYPE_F16) {
        for (float& value : values) {
            value = firmware::from_half(firmware::to_half(value));
        }
    } else if (firmware::is_quantized(dtype)) {
        for (std::size_t at = 0; at < values.size(); at += M4_IMAGE_QUANT_ELEMENTS) {
            const auto block = std::span(values).subspan(at).first<M4_IMAGE_QUANT_ELEMENTS>();
            firmware::dequantize(firmware::quantize(dtype, block), block);
        }
    }
    return values;
}

std::vector<float> make_rope_table(const TinyDims& dims) {
    const std::uint32_t coarse = (dims.context + dims.fine_rows - 1) / dims.fine_rows;
    std::vector<float> table;
    for (std::uint32_t row = 0; row < dims.fine_rows + coarse; ++row) {
        const double position =
            row < dims.fine_rows ? row : (row - dims.fine_rows) * dims.fine_rows;
        for (std::uint32_t i = 0; i < dims.rotated / 2; ++i) {
            const double angle = position * std::pow(dims.rope_base, -2.0 * i / dims.rotated);
            table.push_back(static_cast<float>(std::cos(angle)));
            table.push_back(static_cast<float>(std::sin(angle)));
        }
    }
    return table;
}

std::vector<std::byte> make_tokenizer(std::uint32_t vocabulary) {
    std::vector<std::string> pieces{"<unk>", "<s>", "</s>"};
    std::vector<fb::PieceKind> kinds{fb::PieceKind::unknown, fb::PieceKind::control,
                                     fb::PieceKind::control};
    std::vector<std::uint32_t> byte_ids;
    if (vocabulary >= kSpecialPieces + kBytePieces) {
        constexpr std::string_view kDigits = "0123456789ABCDEF";
        for (std::uint32_t byte = 0; byte < kBytePieces; ++byte) {
            byte_ids.push_back(static_cast<std::uint32_t>(pieces.size()));
            pieces.push_back(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
            kinds.push_back(fb::PieceKind::byte);
        }
    }
    for (std::uint32_t id = static_cast<std::uint32_t>(pieces.size()); id < vocabulary; ++id) {
        const std::uint32_t letter =
            id - static_cast<std::uint32_t>(kSpecialPieces + byte_ids.size());
        pieces.push_back(letter == 0    ? std::string("\u2581")
                         : letter <= 26 ? std::string(1, static_cast<char>('a' + letter - 1))
                                        : "w" + std::to_string(id));
        kinds.push_back(fb::PieceKind::normal);
    }
    pieces.resize(vocabulary);
    kinds.resize(vocabulary);

    std::vector<std::uint8_t> text;
    std::vector<std::uint32_t> offsets{0};
    for (const std::string& piece : pieces) {
        text.insert(text.end(), piece.begin(), piece.end());
        offsets.push_back(static_cast<std::uint32_t>(text.size()));
    }
    std::vector<std::uint32_t> sorted(vocabulary);
    std::iota(sorted.begin(), sorted.end(), 0U);
    std::sort(sorted.begin(), sorted.end(),
              [&](std::uint32_t a, std::uint32_t b) { return pieces[a] < pieces[b]; });
    std::vector<float> scores(vocabulary);
    for (std::uint32_t id = 0; id < vocabulary; ++id) {
        scores[id] = -static_cast<float>(id);
    }

    flatbuffers::FlatBufferBuilder buffer;
    fb::FinishTokenizerBuffer(
        buffer, fb::CreateTokenizerDirect(buffer, fb::TokenizerModel::sentencepiece_bpe, &text,
                                          &offsets, &scores, &kinds, &sorted, &byte_ids, 0, 1, 2,
                                          true, false, true, false));
    const auto bytes = std::as_bytes(std::span(buffer.GetBufferPointer(), buffer.GetSize()));
    return {bytes.begin(), bytes.end()};
}

/// Writes tensors and operators side by side, in the order of the computation.
class Assembler {
   public:
    Assembler(const TinyModel& model, ImageBuilder& builder)
        : model_(model), dims_(model.dims), builder_(builder) {}

    firmware::Package run();

   private:
    using Dims = std::vector<firmware::Dim>;

    static firmware::Dim tokens() { return {1, Symbol::tokens}; }
    static firmware::Dim outputs() { return {1, Symbol::outputs}; }

    std::uint32_t value(m4_dtype dtype, Dims dims) {
        program_.values.push_back({dtype, std::move(dims)});
        return static_cast<std::uint32_t>(program_.values.size() - 1);
    }
    std::uint32_t input(Role role, Symbol symbol) {
        const std::uint32_t index = value(M4_DTYPE_U32, {{1, symbol}});
        program_.inputs.push_back({role, index});
        return index;
    }
    static Operand of_value(std::uint32_t index) { return {OperandKind::value, index}; }
    static Operand of_tensor(std::uint32_t index) { return {OperandKind::tensor, index}; }
    static Operand of_state(std::uint32_t index) { return {OperandKind::state, index}; }

    firmware::Op& op(OpCode code, std::vector<Operand> inputs, std::vector<std::uint32_t> results) {
        firmware::Op added;
        added.code = code;
        added.inputs = std::move(inputs);
        added.outputs = std::move(results);
        program_.ops.push_back(std::move(added));
        return program_.ops.back();
    }
    static void set(firmware::Op& target, AttrId id, double real) {
        target.reals.at(static_cast<std::size_t>(id)) = real;
    }
    static void set(firmware::Op& target, AttrId id, std::uint32_t integer) {
        target.integers.at(static_cast<std::size_t>(id)) = integer;
    }

    std::uint32_t tensor(const std::string& name, const std::vector<float>& data,
                         std::vector<std::uint64_t> shape, m4_layout layout, bool rotated = false) {
        firmware::TensorSpec spec;
        spec.name = name;
        spec.layout = layout;
        spec.dtype = layout == M4_LAYOUT_ROWS16 ? dims_.stored : M4_DTYPE_F32;
        spec.row_order = rotated ? M4_ROW_ORDER_INTERLEAVED : M4_ROW_ORDER_NONE;
        spec.head_dim = rotated ? dims_.head_dim : 0;
        spec.shape = std::move(shape);
        const std::uint64_t columns = spec.shape.back();
        const float* source = data.data();
        return builder_.add_tensor(
            std::move(spec), [=](std::uint64_t first, std::uint64_t count, std::span<float> out) {
                std::copy_n(source + first * columns, count * columns, out.begin());
            });
    }
    std::uint32_t vector(const std::string& name, const std::vector<float>& data) {
        return tensor(name, data, {data.size()}, M4_LAYOUT_PLAIN);
    }

    std::uint32_t norm(std::uint32_t x, firmware::Dim rows, const std::string& name,
                       const std::vector<float>& weight) {
        const std::uint32_t result = value(M4_DTYPE_F32, {rows, {dims_.hidden, Symbol::none}});
        set(op(OpCode::rms_norm, {of_value(x), of_tensor(vector(name, weight))}, {result}),
            AttrId::eps, dims_.eps);
        return result;
    }
    std::uint32_t multiply(std::uint32_t x, std::uint32_t weight, Operand bias, firmware::Dim rows,
                           std::uint32_t width) {
        const std::uint32_t result = value(M4_DTYPE_F32, {rows, {width, Symbol::none}});
        op(OpCode::linear, {of_value(x), of_tensor(weight), bias}, {result});
        return result;
    }
    std::uint32_t linear(std::uint32_t x, const std::string& name, const std::vector<float>& weight,
                         const std::vector<float>& bias, std::uint32_t width, std::uint32_t depth,
                         bool rotated = false) {
        const std::uint32_t index =
            tensor(name + ".weight", weight, {width, depth}, M4_LAYOUT_ROWS16, rotated);
        const Operand slot = bias.empty() ? Operand{} : of_tensor(vector(name + ".bias", bias));
        return multiply(x, index, slot, tokens(), width);
    }
    std::uint32_t binary(OpCode code, std::uint32_t a, std::uint32_t b) {
        const std::uint32_t result = value(M4_DTYPE_F32, program_.values[a].dims);
        op(code, {of_value(a), of_value(b)}, {result});
        return result;
    }
    std::uint32_t rotate(std::uint32_t x, std::uint32_t heads) {
        const std::uint32_t result = value(M4_DTYPE_F32, program_.values[x].dims);
        firmware::Op& added =
            op(OpCode::rope, {of_value(x), of_value(positions_), of_tensor(table_)}, {result});
        set(added, AttrId::heads, heads);
        set(added, AttrId::head_dim, dims_.head_dim);
        set(added, AttrId::fine_rows, dims_.fine_rows);
        return result;
    }
    std::uint32_t attend(std::uint32_t x, const TinyLayer& layer, const std::string& prefix);
    std::uint32_t feed_forward(std::uint32_t x, const TinyLayer& layer, const std::string& prefix);

    const TinyModel& model_;
    const TinyDims& dims_;
    ImageBuilder& builder_;
    firmware::Program program_;
    std::uint32_t positions_ = 0;
    std::uint32_t table_ = 0;
};

std::uint32_t Assembler::attend(std::uint32_t x, const TinyLayer& layer,
                                const std::string& prefix) {
    const std::uint32_t width = dims_.heads * dims_.head_dim;
    const std::uint32_t kv_width = dims_.kv_heads * dims_.head_dim;
    const std::uint32_t state = static_cast<std::uint32_t>(program_.states.size());
    program_.states.push_back({dims_.kv_heads, dims_.head_dim});

    const std::uint32_t h = norm(x, tokens(), prefix + "attention_norm", layer.attention_norm);
    std::uint32_t q = linear(h, prefix + "q", layer.wq, layer.bq, width, dims_.hidden, true);
    std::uint32_t k = linear(h, prefix + "k", layer.wk, layer.bk, kv_width, dims_.hidden, true);
    const std::uint32_t v = linear(h, prefix + "v", layer.wv, layer.bv, kv_width, dims_.hidden);
    q = rotate(q, dims_.heads);
    k = rotate(k, dims_.kv_heads);
    op(OpCode::kv_write, {of_state(state), of_value(k), of_value(v), of_value(positions_)}, {});
    const std::uint32_t mixed = value(M4_DTYPE_F32, {tokens(), {width, Symbol::none}});
    firmware::Op& attention =
        op(OpCode::attention, {of_value(q), of_state(state), of_value(positions_)}, {mixed});
    set(attention, AttrId::heads, dims_.heads);
    set(attention, AttrId::scale, 1.0 / std::sqrt(static_cast<double>(dims_.head_dim)));
    return linear(mixed, prefix + "o", layer.wo, {}, dims_.hidden, width);
}

std::uint32_t Assembler::feed_forward(std::uint32_t x, const TinyLayer& layer,
                                      const std::string& prefix) {
    const std::uint32_t h =
        norm(x, tokens(), prefix + "feed_forward_norm", layer.feed_forward_norm);
    const std::uint32_t gate =
        linear(h, prefix + "gate", layer.gate, {}, dims_.feed_forward, dims_.hidden);
    const std::uint32_t up =
        linear(h, prefix + "up", layer.up, {}, dims_.feed_forward, dims_.hidden);
    const std::uint32_t active = value(M4_DTYPE_F32, program_.values[gate].dims);
    set(op(OpCode::activation, {of_value(gate)}, {active}), AttrId::function,
        static_cast<std::uint32_t>(firmware::Activation::silu));
    return linear(binary(OpCode::mul, active, up), prefix + "down", layer.down, {}, dims_.hidden,
                  dims_.feed_forward);
}

firmware::Package Assembler::run() {
    firmware::Part part;
    part.name = "backbone";
    part.kind = firmware::PartKind::backbone;
    part.architecture = "tiny";
    part.context_length = dims_.context;
    part.vocabulary = dims_.vocabulary;
    part.tokenizer_tensor = builder_.add_section("tokenizer", 0, make_tokenizer(dims_.vocabulary));

    program_.name = "forward";
    const std::uint32_t ids = input(Role::token_ids, Symbol::tokens);
    positions_ = input(Role::positions, Symbol::tokens);
    const std::uint32_t rows = input(Role::output_rows, Symbol::outputs);
    const std::uint32_t embedding =
        tensor("embedding", model_.embedding, {dims_.vocabulary, dims_.hidden}, M4_LAYOUT_ROWS16);
    table_ = tensor("rope_table", model_.rope_table,
                    {model_.rope_table.size() / dims_.rotated, dims_.rotated}, M4_LAYOUT_PLAIN);

    std::uint32_t x = value(M4_DTYPE_F32, {tokens(), {dims_.hidden, Symbol::none}});
    op(OpCode::gather_rows, {of_tensor(embedding), of_value(ids)}, {x});
    program_.inputs.push_back({Role::embedded_rows, x});
    for (std::size_t i = 0; i < model_.layers.size(); ++i) {
        const std::string prefix = "layer." + std::to_string(i) + ".";
        x = binary(OpCode::add, x, attend(x, model_.layers[i], prefix));
        x = binary(OpCode::add, x, feed_forward(x, model_.layers[i], prefix));
    }
    const std::uint32_t wanted = value(M4_DTYPE_F32, {outputs(), {dims_.hidden, Symbol::none}});
    op(OpCode::gather_rows, {of_value(x), of_value(rows)}, {wanted});
    const std::uint32_t last = norm(wanted, outputs(), "final_norm", model_.final_norm);
    const std::uint32_t output =
        dims_.tied
            ? embedding
            : tensor("output", model_.output, {dims_.vocabulary, dims_.hidden}, M4_LAYOUT_ROWS16);
    program_.outputs.push_back(
        {Role::logits, multiply(last, output, {}, outputs(), dims_.vocabulary)});

    program_.fusions = firmware::find_fusions(program_);
    part.parameters = model_.embedding.size() + (dims_.tied ? 0 : model_.output.size());
    part.programs.push_back(std::move(program_));
    return {{std::move(part)}};
}

}  // namespace

TinyModel make_tiny_model(const TinyDims& dims, std::uint64_t seed) {
    Random random(seed);
    const auto matrix = [&](std::size_t rows, std::size_t columns) {
        const double spread = std::sqrt(3.0 / static_cast<double>(columns));
        return as_stored(random.fill(rows * columns, 0.0, spread), dims.stored);
    };
    const auto norm = [&] { return random.fill(dims.hidden, 1.0, 0.25); };
    const std::size_t width = std::size_t{dims.heads} * dims.head_dim;
    const std::size_t kv_width = std::size_t{dims.kv_heads} * dims.head_dim;
    const auto bias = [&](std::size_t count) {
        return dims.query_bias ? random.fill(count, 0.0, 0.5) : std::vector<float>{};
    };

    TinyModel model;
    model.dims = dims;
    model.embedding = matrix(dims.vocabulary, dims.hidden);
    for (std::uint32_t i = 0; i < dims.layers; ++i) {
        TinyLayer layer;
        layer.attention_norm = norm();
        layer.wq = matrix(width, dims.hidden);
        layer.wk = matrix(kv_width, dims.hidden);
        layer.wv = matrix(kv_width, dims.hidden);
        layer.wo = matrix(dims.hidden, width);
        layer.bq = bias(width);
        layer.bk = bias(kv_width);
        layer.bv = bias(kv_width);
        layer.feed_forward_norm = norm();
        layer.gate = matrix(dims.feed_forward, dims.hidden);
        layer.up = matrix(dims.feed_forward, dims.hidden);
        layer.down = matrix(dims.hidden, dims.feed_forward);
        model.layers.push_back(std::move(layer));
    }
    model.final_norm = norm();
    model.output = dims.tied ? model.embedding : matrix(dims.vocabulary, dims.hidden);
    model.rope_table = make_rope_table(dims);
    return model;
}

void build_tiny_model(const TinyModel& model, ImageBuilder& builder) {
    builder.set_package(Assembler(model, builder).run());
}

void write_tiny_model(const TinyModel& model, const std::filesystem::path& folder,
                      const std::string& name, std::uint64_t segment_bytes) {
    ImageBuilder builder(name, "test", 0, segment_bytes);
    build_tiny_model(model, builder);
    builder.write(folder, true);
}

}  // namespace m4::test
