// SPDX-License-Identifier: MIT
#include "llama_export.hpp"

#include <endian.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "gguf_writer.hpp"
#include "lib/error.hpp"
#include "lib/tensor_unpacker.hpp"
#include "lib/tokenizer_pieces.hpp"
#include "llama_program.hpp"
#include "rope_recovery.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint64_t kBlockBytes = 1U << 20U;  // given to the file at a time
constexpr std::uint32_t kQuantizationVersion = 2;

std::string place_of(const std::string& place, const Tensor& tensor) {
    return place + ": tensor '" + std::string(tensor.name) + "'";
}

SourceType source_type(const Tensor& tensor, const std::string& place) {
    switch (tensor.dtype) {
        case M4_DTYPE_F32:
            return SourceType::f32;
        case M4_DTYPE_F16:
            return SourceType::f16;
        case M4_DTYPE_Q8:
            return SourceType::q8_0;
        case M4_DTYPE_Q4:
            return SourceType::q4_0;
        default:
            throw Error(place_of(place, tensor), "is of a type that GGUF has not");
    }
}

/// llama_ftype of files whose matrices are mostly of this type.
std::uint32_t file_type(SourceType type) {
    switch (type) {
        case SourceType::f16:
            return 1;
        case SourceType::q4_0:
            return 2;
        case SourceType::q8_0:
            return 7;
        default:
            return 0;
    }
}

void put_scale(std::byte* out, std::uint16_t scale) {
    out[0] = static_cast<std::byte>(scale & 0xffU);
    out[1] = static_cast<std::byte>(scale >> 8U);
}

/// A block as GGUF has it: the scale, then bytes, or nibbles of the first half
/// below those of the second.
void put_gguf_block(SourceType type, const QuantBlock& block, std::byte* out) {
    put_scale(out, block.scale);
    out += sizeof(block.scale);
    if (type == SourceType::q8_0) {
        std::transform(block.quants.begin(), block.quants.end(), out,
                       [](std::int8_t quant) { return static_cast<std::byte>(quant); });
        return;
    }
    constexpr std::size_t kHalf = M4_IMAGE_QUANT_ELEMENTS / 2;
    for (std::size_t i = 0; i < kHalf; ++i) {
        const auto low = static_cast<unsigned>(block.quants[i] + 8);
        const auto high = static_cast<unsigned>(block.quants[i + kHalf] + 8);
        out[i] = static_cast<std::byte>(low | high << 4U);
    }
}

/// Rows of a matrix one behind the other, some at a time.
void give_matrix(const Tensor& tensor, SourceType type, std::span<const std::byte> stored,
                 const GgufWriter::Sink& sink) {
    const bool quantized = is_quantized(tensor.dtype);
    std::vector<QuantBlock> blocks(quantized ? row_blocks(tensor) : 0);
    const std::uint64_t block_bytes = source_block(type).bytes;
    const std::uint64_t bytes = quantized ? blocks.size() * block_bytes : row_bytes(tensor);
    const std::uint64_t step = std::max<std::uint64_t>(kBlockBytes / bytes, 1);
    std::vector<std::byte> rows;
    for (std::uint64_t first = 0; first < tensor.shape[0]; first += step) {
        const std::uint64_t count = std::min(step, tensor.shape[0] - first);
        rows.resize(count * bytes);
        for (std::uint64_t i = 0; i < count; ++i) {
            const auto row = std::span(rows).subspan(i * bytes, bytes);
            if (!quantized) {
                unpack_row(tensor, stored, first + i, row);
                continue;
            }
            unpack_blocks(tensor, stored, first + i, blocks);
            for (std::size_t b = 0; b < blocks.size(); ++b) {
                put_gguf_block(type, blocks[b], row.data() + b * block_bytes);
            }
        }
        sink(rows);
    }
}

class LlamaExport {
   public:
    LlamaExport(const MappedImage& image, const Part& part, std::string place, GgufWriter& out)
        : image_(image),
          part_(part),
          place_(std::move(place)),
          llama_(recognize_llama(image.image(), part, place_)),
          out_(out) {}

    void run() {
        const auto rope = read_rope();
        add_settings(rope);
        add_tokenizer();
        add(llama_.embedding, "token_embd.weight");
        for (std::size_t i = 0; i < llama_.layers.size(); ++i) {
            add_layer(llama_.layers[i], "blk." + std::to_string(i) + ".");
        }
        add(llama_.final_norm, "output_norm.weight");
        add(llama_.output, "output.weight");
        if (rope.scaling == RopeSettings::Scaling::factors) {
            add_factors(rope.factors);
        }
    }

   private:
    RopeSettings read_rope() const;
    void add_settings(const RopeSettings& rope);
    void add_tokenizer();
    void add_layer(const LlamaLayer& layer, const std::string& prefix);
    void add(const Tensor* tensor, const std::string& name);
    void add(const LlamaProjection& projection, const std::string& name);
    void add_factors(const std::vector<float>& factors);

    const MappedImage& image_;
    const Part& part_;
    std::string place_;
    LlamaProgram llama_;
    GgufWriter& out_;
};

RopeSettings LlamaExport::read_rope() const {
    const Tensor& table = *llama_.rope_table;
    const auto bytes = image_.bytes(table);
    std::vector<float> values(table.shape[0] * table.shape[1]);
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, bytes.data() + i * sizeof(bits), sizeof(bits));
        values[i] = std::bit_cast<float>(le32toh(bits));
    }
    return recover_rope(values, llama_.config.head_dim, llama_.fine_rows, place_of(place_, table));
}

void LlamaExport::add_settings(const RopeSettings& rope) {
    const LlamaConfig& config = llama_.config;
    const auto type = source_type(*llama_.layers.front().q.weight, place_);
    out_.add_string("general.architecture", "llama");
    out_.add_string("general.name", image_.image().name());
    out_.add_string("general.version", image_.image().version());
    out_.add_u32("general.file_type", file_type(type));
    out_.add_u32("general.quantization_version", kQuantizationVersion);
    out_.add_u32("llama.context_length", config.context);
    out_.add_u32("llama.embedding_length", config.dim);
    out_.add_u32("llama.block_count", config.layers);
    out_.add_u32("llama.feed_forward_length", config.ffn);
    out_.add_u32("llama.attention.head_count", config.heads);
    out_.add_u32("llama.attention.head_count_kv", config.kv_heads);
    out_.add_u32("llama.attention.key_length", config.head_dim);
    out_.add_u32("llama.attention.value_length", config.head_dim);
    out_.add_f32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(config.eps));
    out_.add_u32("llama.rope.dimension_count", config.head_dim);
    out_.add_f32("llama.rope.freq_base", static_cast<float>(rope.theta));
    if (rope.scaling == RopeSettings::Scaling::linear) {
        out_.add_string("llama.rope.scaling.type", "linear");
        out_.add_f32("llama.rope.scaling.factor", static_cast<float>(rope.factor));
    }
    out_.add_u32("llama.vocab_size", config.vocabulary);
}

void LlamaExport::add_tokenizer() {
    const Tensor& section = image_.image().tensors()[part_.tokenizer_tensor];
    const PieceTable pieces(image_.bytes(section), place_of(place_, section));
    std::vector<std::string_view> texts;
    std::vector<float> scores;
    std::vector<std::int32_t> kinds;
    for (std::uint32_t id = 0; id < pieces.count(); ++id) {
        texts.push_back(pieces.text(id));
        scores.push_back(pieces.score(id));
        kinds.push_back(static_cast<std::int32_t>(pieces.kind(id)));
    }
    const fb::Tokenizer& root = pieces.root();
    out_.add_string("tokenizer.ggml.model", "llama");
    out_.add_string("tokenizer.ggml.pre", "default");
    out_.add_strings("tokenizer.ggml.tokens", texts);
    out_.add_floats("tokenizer.ggml.scores", scores);
    out_.add_i32s("tokenizer.ggml.token_type", kinds);
    const auto add_id = [&](const char* key, std::int32_t id) {
        if (id >= 0) {
            out_.add_u32(key, static_cast<std::uint32_t>(id));
        }
    };
    add_id("tokenizer.ggml.bos_token_id", root.bos_id());
    add_id("tokenizer.ggml.eos_token_id", root.eos_id());
    add_id("tokenizer.ggml.unknown_token_id", root.unknown_id());
    out_.add_bool("tokenizer.ggml.add_bos_token", root.add_bos());
    out_.add_bool("tokenizer.ggml.add_eos_token", root.add_eos());
    out_.add_bool("tokenizer.ggml.add_space_prefix", root.add_space_prefix());
    out_.add_bool("tokenizer.ggml.remove_extra_whitespaces", root.remove_extra_spaces());
}

void LlamaExport::add_layer(const LlamaLayer& layer, const std::string& prefix) {
    add(layer.attention_norm, prefix + "attn_norm.weight");
    // Rows of Q and K are interleaved in both worlds.
    add(layer.q, prefix + "attn_q");
    add(layer.k, prefix + "attn_k");
    add(layer.v, prefix + "attn_v");
    add(layer.o, prefix + "attn_output");
    add(layer.ffn_norm, prefix + "ffn_norm.weight");
    add(layer.gate, prefix + "ffn_gate");
    add(layer.up, prefix + "ffn_up");
    add(layer.down, prefix + "ffn_down");
}

void LlamaExport::add(const LlamaProjection& projection, const std::string& name) {
    add(projection.weight, name + ".weight");
    add(projection.bias, name + ".bias");
}

/// Null: a tensor that this model has not.
void LlamaExport::add(const Tensor* tensor, const std::string& name) {
    if (tensor == nullptr) {
        return;
    }
    const SourceType type = source_type(*tensor, place_);
    std::vector<std::uint64_t> shape(tensor->shape.begin(), tensor->shape.begin() + tensor->rank);
    out_.add_tensor(name, type, std::move(shape),
                    [tensor, type, stored = image_.bytes(*tensor)](const GgufWriter::Sink& sink) {
                        if (tensor->layout == M4_LAYOUT_PLAIN) {
                            sink(stored);
                        } else {
                            give_matrix(*tensor, type, stored, sink);
                        }
                    });
}

void LlamaExport::add_factors(const std::vector<float>& factors) {
    out_.add_tensor("rope_freqs.weight", SourceType::f32, {factors.size()},
                    [factors](const GgufWriter::Sink& sink) {
                        std::vector<std::uint32_t> bits(factors.size());
                        std::transform(factors.begin(), factors.end(), bits.begin(),
                                       [](float factor) {
                                           return htole32(std::bit_cast<std::uint32_t>(factor));
                                       });
                        sink(std::as_bytes(std::span(bits)));
                    });
}

}  // namespace

void export_llama(const MappedImage& image, const std::string& place, GgufWriter& out) {
    const auto& parts = image.image().package().parts;
    const auto is_backbone = [](const Part& part) { return part.kind == PartKind::backbone; };
    const auto part = std::find_if(parts.begin(), parts.end(), is_backbone);
    if (std::count_if(parts.begin(), parts.end(), is_backbone) != 1) {
        throw Error(place, "has not one backbone; a GGUF holds one");
    }
    LlamaExport(image, *part, place, out).run();
}

}  // namespace m4::firmware
