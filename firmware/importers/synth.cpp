// SPDX-License-Identifier: MIT
#include "synth.hpp"

#include <array>
#include <memory>
#include <string>

#include "import.hpp"
#include "lib/error.hpp"
#include "lib/limits.hpp"
#include "llama.hpp"
#include "random_tensors.hpp"
#include "tokenizer_section.hpp"

namespace m4::firmware {

namespace {

constexpr std::uint32_t kBytePieces = 256;
constexpr std::uint32_t kSpecialPieces = 3;
constexpr std::uint32_t kLeastVocabulary = kBytePieces + kSpecialPieces;
constexpr std::uint8_t kByteKind = 6;

struct NamedShape {
    std::string_view name;
    std::uint32_t dim, layers, heads, kv_heads, ffn;
};
constexpr std::array kShapes = {
    NamedShape{"15m", 288, 6, 6, 6, 768},      NamedShape{"134m", 768, 12, 12, 12, 2048},
    NamedShape{"1.1b", 2048, 22, 32, 4, 5632}, NamedShape{"3b", 3072, 28, 24, 8, 8192},
    NamedShape{"7b", 4096, 32, 32, 32, 11008},
};
constexpr std::string_view kShapeNames = "15m, 134m, 1.1b, 3b, 7b";
constexpr std::uint32_t kVocabulary = 32000;
constexpr std::uint32_t kContext = 4096;

class Synth {
   public:
    Synth(const LlamaConfig& config, std::uint64_t seed) : config_(config), tensors_(seed) {}

    std::shared_ptr<const Checkpoint> run() {
        const std::uint64_t q = std::uint64_t{config_.heads} * config_.head_dim;
        const std::uint64_t kv = std::uint64_t{config_.kv_heads} * config_.head_dim;
        const std::uint64_t dim = config_.dim;
        matrix("model.embed_tokens.weight", config_.vocabulary, dim);
        for (std::uint32_t i = 0; i < config_.layers; ++i) {
            const std::string layer = "model.layers." + std::to_string(i) + ".";
            vector(layer + "input_layernorm.weight");
            matrix(layer + "self_attn.q_proj.weight", q, dim);
            matrix(layer + "self_attn.k_proj.weight", kv, dim);
            matrix(layer + "self_attn.v_proj.weight", kv, dim);
            matrix(layer + "self_attn.o_proj.weight", dim, q);
            vector(layer + "post_attention_layernorm.weight");
            matrix(layer + "mlp.gate_proj.weight", config_.ffn, dim);
            matrix(layer + "mlp.up_proj.weight", config_.ffn, dim);
            matrix(layer + "mlp.down_proj.weight", dim, config_.ffn);
        }
        vector("model.norm.weight");
        if (!config_.tied) {
            matrix("lm_head.weight", config_.vocabulary, dim);
        }
        return tensors_.checkpoint();
    }

   private:
    void matrix(const std::string& name, std::uint64_t rows, std::uint64_t columns) {
        tensors_.matrix(name, {rows, columns});
    }
    void vector(const std::string& name) { tensors_.norm(name, config_.dim); }

    const LlamaConfig& config_;
    RandomTensors tensors_;
};

/// Special pieces, every byte, then words of two letters and more.
TokenizerSource made_up_words(std::uint32_t vocabulary) {
    TokenizerSource source;
    source.pieces = {{"<unk>", 0, TokenizerSource::kUnknown},
                     {"<s>", 0, TokenizerSource::kControl},
                     {"</s>", 0, TokenizerSource::kControl}};
    source.unknown_id = 0;
    source.bos_id = 1;
    source.eos_id = 2;
    constexpr std::string_view kHex = "0123456789ABCDEF";
    for (std::uint32_t byte = 0; byte < kBytePieces; ++byte) {
        const std::string digits = {kHex[byte / 16], kHex[byte % 16]};
        source.pieces.push_back({"<0x" + digits + ">", 0, kByteKind});
    }
    for (std::uint32_t i = 0; source.pieces.size() < vocabulary; ++i) {
        std::string word = i % 2 == 0 ? "\xe2\x96\x81" : "";  // begins a word, or goes on
        for (std::uint32_t rest = i / 2 + 1; rest != 0; rest = (rest - 1) / 26) {
            word += static_cast<char>('a' + (rest - 1) % 26);
        }
        source.pieces.push_back({word, -static_cast<float>(i), 1});
    }
    return source;
}

void check(const LlamaConfig& config) {
    const auto require = [](bool good, const std::string& text) {
        if (!good) {
            throw Error("synth", text);
        }
    };
    require(config.dim != 0 && config.layers != 0 && config.heads != 0 && config.kv_heads != 0 &&
                config.ffn != 0 && config.context != 0,
            "every size must be at least 1");
    require(config.heads % config.kv_heads == 0, "heads must be a multiple of the KV heads");
    require(config.head_dim != 0 && config.head_dim % 2 == 0, "a head must be of even width");
    require(config.vocabulary >= kLeastVocabulary,
            "the vocabulary must have room for " + std::to_string(kLeastVocabulary) + " pieces");
    require(config.context <= kMaxContext, "the context is too long");
    require(config.dim <= M4_IMAGE_DIM_MAX / 4 && config.ffn <= M4_IMAGE_DIM_MAX / 4 &&
                config.vocabulary <= M4_IMAGE_DIM_MAX / 4 &&
                std::uint64_t{config.heads} * config.head_dim <= M4_IMAGE_DIM_MAX / 4,
            "a size is too large");
}

}  // namespace

std::optional<LlamaConfig> synth_shape(std::string_view name) {
    for (const NamedShape& shape : kShapes) {
        if (shape.name == name) {
            LlamaConfig config;
            config.dim = shape.dim;
            config.layers = shape.layers;
            config.heads = shape.heads;
            config.kv_heads = shape.kv_heads;
            config.head_dim = shape.dim / shape.heads;
            config.ffn = shape.ffn;
            config.vocabulary = kVocabulary;
            config.context = kContext;
            config.eps = 1e-5;
            return config;
        }
    }
    return std::nullopt;
}

std::string_view synth_shape_names() {
    return kShapeNames;
}

void synthesize_llama(LlamaConfig config, std::uint64_t seed, const ImportOptions& options,
                      ImageBuilder& builder) {
    check(config);
    LlamaSource source;
    source.config = config;
    source.checkpoint = Synth(source.config, seed).run();
    source.hf_names = true;
    source.rotated_order = M4_ROW_ORDER_HALF_SPLIT;
    source.tokenizer =
        build_tokenizer_section(made_up_words(config.vocabulary), config.vocabulary, "synth");
    import_llama(source, options, builder);
}

}  // namespace m4::firmware
