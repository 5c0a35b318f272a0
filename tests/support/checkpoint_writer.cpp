// SPDX-License-Identifier: MIT
#include "checkpoint_writer.hpp"

#include <lib/half.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

namespace m4::test {

namespace {

constexpr std::uint64_t kAlignment = 32;

enum : std::uint32_t { kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9 };

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    const auto at = text.find(from);
    return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

/// Half-split rows as GGUF has them: pair by pair.
std::vector<float> interleaved(const LlamaCheckpoint::Tensor& tensor, std::uint32_t head_dim) {
    const std::size_t columns = tensor.shape.size() == 1 ? 1 : tensor.shape[1];
    const std::size_t half = head_dim / 2;
    std::vector<float> out;
    for (std::size_t head = 0; head < tensor.shape[0]; head += head_dim) {
        for (std::size_t pair = 0; pair < half; ++pair) {
            for (const std::size_t row : {head + pair, head + pair + half}) {
                const auto begin =
                    tensor.values.begin() + static_cast<std::ptrdiff_t>(row * columns);
                out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(columns));
            }
        }
    }
    return out;
}

std::string dtype_name(Stored stored) {
    return stored == Stored::f32 ? "F32" : stored == Stored::f16 ? "F16" : "BF16";
}

/// Protobuf: tag, then a varint.
void put_varint(std::string& out, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) {
        out += static_cast<char>(value | 0x80);
    }
    out += static_cast<char>(value);
}

void put_number(std::string& out, std::uint32_t field, std::uint64_t value) {
    put_varint(out, field << 3U);
    put_varint(out, value);
}

void put_bytes(std::string& out, std::uint32_t field, std::string_view bytes) {
    put_varint(out, (field << 3U) | 2U);
    put_varint(out, bytes.size());
    out += bytes;
}

}  // namespace

void write_file(const std::filesystem::path& path, std::string_view bytes) {
    std::ofstream out(path, std::ios::binary);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) {
        throw std::runtime_error("cannot write " + path.string());
    }
}

/// Blocks of GGUF's Q8_0 and Q4_0, with a scale that is not the tightest: who
/// quantises the values anew gets other blocks.
std::string store_blocks(const std::vector<float>& values, bool q8) {
    Bytes out;
    for (std::size_t at = 0; at < values.size(); at += 32) {
        float largest = 0;
        for (std::size_t i = 0; i < 32; ++i) {
            largest = std::max(largest, std::abs(values[at + i]));
        }
        const std::uint16_t bits = firmware::to_half(largest / (q8 ? 100.0F : 6.0F));
        const float scale = firmware::from_half(bits);
        const auto quant = [&](std::size_t i) {
            return scale == 0 ? 0 : static_cast<int>(std::lround(values[at + i] / scale));
        };
        out.number(bits);
        for (std::size_t i = 0; i < (q8 ? 32 : 16); ++i) {
            out.number(static_cast<std::uint8_t>(q8 ? quant(i)
                                                    : (quant(i) + 8) | (quant(i + 16) + 8) << 4));
        }
    }
    return out.data;
}

std::string gguf_name(std::string name) {
    constexpr std::pair<std::string_view, std::string_view> kRules[] = {
        {"model.embed_tokens", "token_embd"},
        {"model.norm", "output_norm"},
        {"lm_head", "output"},
        {"model.layers", "blk"},
        {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},
        {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"},
        {"post_attention_layernorm", "ffn_norm"},
        {"input_layernorm", "attn_norm"},
        {"mlp.gate_proj", "ffn_gate"},
        {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"},
    };
    for (const auto& [from, to] : kRules) {
        name = replaced(std::move(name), from, to);
    }
    return name;
}

std::string store_values(const std::vector<float>& values, Stored stored) {
    if (stored == Stored::q8_0 || stored == Stored::q4_0) {
        return store_blocks(values, stored == Stored::q8_0);
    }
    Bytes out;
    for (const float value : values) {
        if (stored == Stored::f32) {
            out.number(value);
        } else if (stored == Stored::f16) {
            out.number(firmware::to_half(value));
        } else {
            out.number(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
        }
    }
    return out.data;
}

GgufWriter& GgufWriter::string(std::string_view key, std::string_view value) {
    ++key_count_;
    keys_.text(key).number(std::uint32_t{kString}).text(value);
    return *this;
}

GgufWriter& GgufWriter::u32(std::string_view key, std::uint32_t value) {
    ++key_count_;
    keys_.text(key).number(std::uint32_t{kU32}).number(value);
    return *this;
}

GgufWriter& GgufWriter::f32(std::string_view key, float value) {
    ++key_count_;
    keys_.text(key).number(std::uint32_t{kF32}).number(value);
    return *this;
}

GgufWriter& GgufWriter::boolean(std::string_view key, bool value) {
    ++key_count_;
    keys_.text(key).number(std::uint32_t{kBool}).number(static_cast<std::uint8_t>(value));
    return *this;
}

GgufWriter& GgufWriter::strings(std::string_view key, const std::vector<std::string>& values) {
    ++key_count_;
    keys_.text(key).number(std::uint32_t{kArray}).number(std::uint32_t{kString});
    keys_.number(std::uint64_t{values.size()});
    for (const auto& value : values) {
        keys_.text(value);
    }
    return *this;
}

GgufWriter& GgufWriter::floats(std::string_view key, const std::vector<float>& values) {
    ++key_count_;
    keys_.text(key).number(std::uint32_t{kArray}).number(std::uint32_t{kF32});
    keys_.number(std::uint64_t{values.size()});
    for (const auto value : values) {
        keys_.number(value);
    }
    return *this;
}

GgufWriter& GgufWriter::i32s(std::string_view key, const std::vector<std::int32_t>& values) {
    ++key_count_;
    keys_.text(key).number(std::uint32_t{kArray}).number(std::uint32_t{kI32});
    keys_.number(std::uint64_t{values.size()});
    for (const auto value : values) {
        keys_.number(value);
    }
    return *this;
}

GgufWriter& GgufWriter::tensor(std::string_view name, const std::vector<std::uint64_t>& shape,
                               std::uint32_t type, std::string data) {
    ++tensor_count_;
    data_.resize((data_.size() + kAlignment - 1) / kAlignment * kAlignment);
    infos_.text(name).number(static_cast<std::uint32_t>(shape.size()));
    for (auto extent = shape.rbegin(); extent != shape.rend(); ++extent) {
        infos_.number(*extent);
    }
    infos_.number(type).number(std::uint64_t{data_.size()});
    data_ += data;
    return *this;
}

std::string GgufWriter::bytes() const {
    Bytes out;
    out.data = "GGUF";
    out.number(std::uint32_t{3}).number(tensor_count_).number(key_count_);
    out.data += keys_.data + infos_.data;
    out.data.resize((out.data.size() + kAlignment - 1) / kAlignment * kAlignment);
    return out.data + data_;
}

std::string safetensors_bytes(const std::map<std::string, SafeTensor>& tensors) {
    nlohmann::json header;
    header["__metadata__"] = {{"format", "pt"}};
    std::string data;
    for (const auto& [name, tensor] : tensors) {
        header[name] = {{"dtype", tensor.dtype},
                        {"shape", tensor.shape},
                        {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
        data += tensor.data;
    }
    Bytes out;
    out.text(header.dump());
    return out.data + data;
}

std::map<std::string, SafeTensor> random_limu() {
    constexpr std::uint64_t kWidth = 24;
    std::map<std::string, SafeTensor> tensors;
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0, 0.3F);
    const auto add = [&](const std::string& name, const std::vector<std::uint64_t>& shape) {
        std::uint64_t count = 1;
        for (const std::uint64_t side : shape) {
            count *= side;
        }
        std::vector<float> values(count);
        std::generate(values.begin(), values.end(), [&] { return normal(random); });
        tensors[name] = {"F32", shape, store_values(values, Stored::f32)};
    };
    const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        add("transformer." + name + ".weight", {rows, columns});
        add("transformer." + name + ".bias", {rows});
    };
    linear("embed.lin", kWidth, 6);
    add("transformer.embed.pos_embed.weight", {120, kWidth});
    for (const char* name : {"attn.proj_q", "attn.proj_k", "attn.proj_v", "proj"}) {
        linear(name, kWidth, kWidth);
    }
    linear("pwff.fc1", 40, kWidth);
    linear("pwff.fc2", kWidth, 40);
    for (const char* name : {"embed.norm", "norm1", "norm2"}) {
        add("transformer." + std::string(name) + ".gamma", {kWidth});
        add("transformer." + std::string(name) + ".beta", {kWidth});
    }
    add("decoder.weight", {6, kWidth});  // is left out
    return tensors;
}

LlamaCheckpoint random_llama(const LlamaShape& shape, std::uint32_t seed) {
    LlamaCheckpoint model;
    model.shape = shape;
    model.tokenizer = tiny_tokenizer();
    const std::uint64_t vocabulary = model.tokenizer.pieces.size() + 5;  // padded rows
    std::mt19937 random(seed);
    const auto add = [&](const std::string& name, std::vector<std::uint64_t> extents) {
        auto& tensor = model.tensors[name];
        tensor.shape = std::move(extents);
        const auto count =
            tensor.shape[0] * (tensor.shape.size() == 2 ? tensor.shape[1] : std::uint64_t{1});
        for (std::uint64_t i = 0; i < count; ++i) {  // eighths in (-16, 16): 8 bits
            tensor.values.push_back(static_cast<float>(static_cast<int>(random() % 255) - 127) / 8);
        }
    };
    const auto linear = [&](const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        add(name + ".weight", {rows, columns});
        if (shape.biases) {
            add(name + ".bias", {rows});
        }
    };
    const std::uint64_t q = std::uint64_t{shape.heads} * shape.head_dim;
    const std::uint64_t kv = std::uint64_t{shape.kv_heads} * shape.head_dim;
    add("model.embed_tokens.weight", {vocabulary, shape.dim});
    add("model.norm.weight", {shape.dim});
    if (!shape.tied) {
        add("lm_head.weight", {vocabulary, shape.dim});
    }
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
        const auto prefix = "model.layers." + std::to_string(layer) + ".";
        add(prefix + "input_layernorm.weight", {shape.dim});
        add(prefix + "post_attention_layernorm.weight", {shape.dim});
        linear(prefix + "self_attn.q_proj", q, shape.dim);
        linear(prefix + "self_attn.k_proj", kv, shape.dim);
        linear(prefix + "self_attn.v_proj", kv, shape.dim);
        linear(prefix + "self_attn.o_proj", shape.dim, q);
        linear(prefix + "mlp.gate_proj", shape.ffn, shape.dim);
        linear(prefix + "mlp.up_proj", shape.ffn, shape.dim);
        linear(prefix + "mlp.down_proj", shape.dim, shape.ffn);
    }
    return model;
}

firmware::TokenizerSource tiny_tokenizer() {
    firmware::TokenizerSource source;
    source.pieces = {{"<unk>", 0.0F, 2}, {"<s>", 0.0F, 3}, {"</s>", 0.0F, 3}};
    constexpr char kHex[] = "0123456789ABCDEF";
    for (unsigned value = 0; value < 256; ++value) {
        source.pieces.push_back(
            {std::string("<0x") + kHex[value >> 4] + kHex[value & 15] + ">", 0.0F, 6});
    }
    float score = 0.0F;
    for (const char* text : {"\xE2\x96\x81t", "he", "in", "re", "\xE2\x96\x81the", "ing",
                             "\xE2\x96\x81", "t", "h", "e", "i", "n", "g", "r"}) {
        source.pieces.push_back({text, score, 1});
        score -= 1.0F;
    }
    source.unknown_id = 0;
    source.bos_id = 1;
    source.eos_id = 2;
    return source;
}

std::string sentencepiece_model(const firmware::TokenizerSource& source) {
    std::string out;
    for (const auto& piece : source.pieces) {
        std::string message;
        put_bytes(message, 1, piece.text);
        put_varint(message, (2U << 3U) | 5U);
        message += Bytes().number(piece.score).data;
        put_number(message, 3, piece.kind);
        put_bytes(out, 1, message);
    }
    const auto has_bytes = source.find(6) >= 0;
    std::string trainer;
    put_number(trainer, 3, 2);  // BPE
    put_number(trainer, 35, has_bytes ? 1 : 0);
    put_bytes(out, 2, trainer);
    std::string normalizer;
    put_bytes(normalizer, 1, "identity");
    put_number(normalizer, 3, source.add_space_prefix ? 1 : 0);
    put_number(normalizer, 4, source.remove_extra_spaces ? 1 : 0);
    put_bytes(out, 3, normalizer);
    return out;
}

std::string llama_config_json(const LlamaCheckpoint& model, const std::string& extra) {
    const auto& shape = model.shape;
    nlohmann::json config = {
        {"architectures", {"LlamaForCausalLM"}},
        {"model_type", "llama"},
        {"hidden_size", shape.dim},
        {"intermediate_size", shape.ffn},
        {"num_hidden_layers", shape.layers},
        {"num_attention_heads", shape.heads},
        {"num_key_value_heads", shape.kv_heads},
        {"head_dim", shape.head_dim},
        {"vocab_size", model.tensors.at("model.embed_tokens.weight").shape[0]},
        {"max_position_embeddings", shape.context},
        {"rms_norm_eps", 1e-5},
        {"hidden_act", "silu"},
        {"tie_word_embeddings", shape.tied},
        {"attention_bias", shape.biases},
        {"mlp_bias", shape.biases},
    };
    if (!extra.empty()) {
        config.update(nlohmann::json::parse(extra));
    }
    return config.dump();
}

void write_hf_folder(const LlamaCheckpoint& model, const std::filesystem::path& folder,
                     Stored stored, bool sharded) {
    std::filesystem::create_directories(folder);
    write_file(folder / "config.json", llama_config_json(model));
    write_file(folder / "tokenizer.model", sentencepiece_model(model.tokenizer));
    std::map<std::string, SafeTensor> files[2];
    nlohmann::json index;
    std::size_t count = 0;
    for (const auto& [name, tensor] : model.tensors) {
        const std::size_t shard = sharded ? count++ % 2 : 0;
        files[shard][name] = {dtype_name(stored), tensor.shape,
                              store_values(tensor.values, stored)};
        index["weight_map"][name] = "model-" + std::to_string(shard) + ".safetensors";
    }
    if (!sharded) {
        write_file(folder / "model.safetensors", safetensors_bytes(files[0]));
        return;
    }
    write_file(folder / "model-0.safetensors", safetensors_bytes(files[0]));
    write_file(folder / "model-1.safetensors", safetensors_bytes(files[1]));
    write_file(folder / "model.safetensors.index.json", index.dump());
}

GgufWriter llama_gguf(const LlamaCheckpoint& model, Stored stored) {
    const auto& shape = model.shape;
    GgufWriter out;
    out.string("general.architecture", "llama");
    out.u32("llama.context_length", shape.context).u32("llama.embedding_length", shape.dim);
    out.u32("llama.block_count", shape.layers).u32("llama.feed_forward_length", shape.ffn);
    out.u32("llama.attention.head_count", shape.heads);
    out.u32("llama.attention.head_count_kv", shape.kv_heads);
    out.u32("llama.attention.key_length", shape.head_dim);
    out.u32("llama.attention.value_length", shape.head_dim);
    out.u32("llama.rope.dimension_count", shape.head_dim);
    out.f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
    std::vector<std::string> tokens;
    std::vector<float> scores;
    std::vector<std::int32_t> kinds;
    for (const auto& piece : model.tokenizer.pieces) {
        tokens.push_back(piece.text);
        scores.push_back(piece.score);
        kinds.push_back(piece.kind);
    }
    out.string("tokenizer.ggml.model", "llama").strings("tokenizer.ggml.tokens", tokens);
    out.floats("tokenizer.ggml.scores", scores).i32s("tokenizer.ggml.token_type", kinds);
    out.u32("tokenizer.ggml.bos_token_id", 1).u32("tokenizer.ggml.eos_token_id", 2);
    out.u32("tokenizer.ggml.unknown_token_id", 0);
    for (const auto& [name, tensor] : model.tensors) {
        const bool rotated =
            name.find("q_proj") != std::string::npos || name.find("k_proj") != std::string::npos;
        const bool blocks = stored == Stored::q8_0 || stored == Stored::q4_0;
        const bool fits = tensor.shape.size() == 2 && (!blocks || tensor.shape[1] % 32 == 0);
        const auto kept = fits ? stored : Stored::f32;
        out.tensor(
            gguf_name(name), tensor.shape, static_cast<std::uint32_t>(kept),
            store_values(rotated ? interleaved(tensor, shape.head_dim) : tensor.values, kept));
    }
    return out;
}

}  // namespace m4::test
