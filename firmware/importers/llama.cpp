// SPDX-License-Identifier: MIT
#include "llama.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint.hpp"
#include "gguf.hpp"
#include "import.hpp"
#include "json_file.hpp"
#include "lib/builder.hpp"
#include "lib/error.hpp"
#include "llama_config.hpp"
#include "program_builder.hpp"
#include "rope_table.hpp"
#include "row_order.hpp"
#include "safetensors.hpp"
#include "source_digest.hpp"
#include "tokenizer_section.hpp"

namespace m4::firmware {

namespace {

using Ref = ProgramBuilder::Ref;

enum class Extent : std::uint8_t { none, dim, q, kv, ffn, vocabulary };
enum class Bias : std::uint8_t { never, attention, mlp };

/// One tensor of the model: its names in both worlds (# is the layer), its
/// shape, whether RoPE turns its rows. The Hugging Face name is the canonical
/// one: the image and the source digest use it.
struct TensorRule {
    const char* hf;
    const char* gguf;
    Extent rows;
    Extent columns = Extent::none;  ///< none: a vector
    bool rotated = false;
    Bias bias = Bias::never;
};

constexpr TensorRule kEmbedding{"model.embed_tokens.weight", "token_embd.weight",
                                Extent::vocabulary, Extent::dim};
constexpr TensorRule kFinalNorm{"model.norm.weight", "output_norm.weight", Extent::dim};
constexpr TensorRule kOutput{"lm_head.weight", "output.weight", Extent::vocabulary, Extent::dim};
constexpr TensorRule kAttentionNorm{"model.layers.#.input_layernorm.weight",
                                    "blk.#.attn_norm.weight", Extent::dim};
constexpr TensorRule kQ{"model.layers.#.self_attn.q_proj.weight",
                        "blk.#.attn_q.weight",
                        Extent::q,
                        Extent::dim,
                        true,
                        Bias::attention};
constexpr TensorRule kK{"model.layers.#.self_attn.k_proj.weight",
                        "blk.#.attn_k.weight",
                        Extent::kv,
                        Extent::dim,
                        true,
                        Bias::attention};
constexpr TensorRule kV{"model.layers.#.self_attn.v_proj.weight",
                        "blk.#.attn_v.weight",
                        Extent::kv,
                        Extent::dim,
                        false,
                        Bias::attention};
constexpr TensorRule kO{"model.layers.#.self_attn.o_proj.weight",
                        "blk.#.attn_output.weight",
                        Extent::dim,
                        Extent::q,
                        false,
                        Bias::attention};
constexpr TensorRule kFfnNorm{"model.layers.#.post_attention_layernorm.weight",
                              "blk.#.ffn_norm.weight", Extent::dim};
constexpr TensorRule kGate{"model.layers.#.mlp.gate_proj.weight",
                           "blk.#.ffn_gate.weight",
                           Extent::ffn,
                           Extent::dim,
                           false,
                           Bias::mlp};
constexpr TensorRule kUp{"model.layers.#.mlp.up_proj.weight",
                         "blk.#.ffn_up.weight",
                         Extent::ffn,
                         Extent::dim,
                         false,
                         Bias::mlp};
constexpr TensorRule kDown{"model.layers.#.mlp.down_proj.weight",
                           "blk.#.ffn_down.weight",
                           Extent::dim,
                           Extent::ffn,
                           false,
                           Bias::mlp};

/// Buffers that some files carry and that follow from the configuration.
bool is_derived(std::string_view name) {
    return name == "rope_freqs.weight" || name.ends_with(".attn_rot_embd.weight") ||
           name.ends_with(".rotary_emb.inv_freq");
}

std::string layer_name(std::string_view pattern, std::uint32_t layer) {
    std::string name(pattern);
    if (const auto at = name.find('#'); at != std::string::npos) {
        name.replace(at, 1, std::to_string(layer));
    }
    return name;
}

std::string bias_name(std::string name) {
    constexpr std::string_view kWeight = "weight";
    name.replace(name.size() - kWeight.size(), kWeight.size(), "bias");
    return name;
}

/// A projection as the program uses it.
struct Projection {
    Ref weight;
    Ref bias;
    std::uint32_t rows = 0;
};

class LlamaImport {
   public:
    LlamaImport(const LlamaSource& source, const ImportOptions& options, ImageBuilder& builder)
        : source_(source),
          config_(source.config),
          options_(options),
          builder_(builder),
          part_(builder.next_part()) {}

    void run();

   private:
    [[nodiscard]] std::uint32_t extent(Extent which) const;
    [[nodiscard]] const SourceTensor& require(const std::string& name, Extent rows, Extent columns);
    Ref add(const SourceTensor& tensor, const std::string& canonical, const TensorRule& rule);
    Ref norm(const TensorRule& rule, std::uint32_t layer = 0);
    Projection projection(const TensorRule& rule, std::uint32_t layer = 0);
    Projection output(const Projection& embedding);
    Ref add_rope_table();
    Ref emit_layer(ProgramBuilder& program, Ref x, std::uint32_t layer);
    void refuse_leftovers() const;

    const LlamaSource& source_;
    const LlamaConfig& config_;
    const ImportOptions& options_;
    ImageBuilder& builder_;
    const std::uint32_t part_;
    std::set<std::string, std::less<>> used_;
    std::vector<DigestTensor> digest_;
    std::uint64_t parameters_ = 0;
    Ref positions_;
    Ref rope_;
};

std::uint32_t LlamaImport::extent(Extent which) const {
    switch (which) {
        case Extent::none:
            break;
        case Extent::dim:
            return config_.dim;
        case Extent::q:
            return config_.heads * config_.head_dim;
        case Extent::kv:
            return config_.kv_heads * config_.head_dim;
        case Extent::ffn:
            return config_.ffn;
        case Extent::vocabulary:
            return config_.vocabulary;
    }
    return 0;
}

const SourceTensor& LlamaImport::require(const std::string& name, Extent rows, Extent columns) {
    std::vector<std::uint64_t> wanted{extent(rows)};
    if (columns != Extent::none) {
        wanted.push_back(extent(columns));
    }
    const auto* tensor = source_.checkpoint->find(name);
    if (tensor == nullptr) {
        throw Error(source_.checkpoint->place() + ": tensor " + shown(name),
                    "is missing; its shape would be " + shape_text(wanted));
    }
    if (tensor->shape != wanted) {
        throw Error(tensor->place(),
                    "has shape " + shape_text(tensor->shape) + " instead of " + shape_text(wanted));
    }
    if (tensor->type == SourceType::other) {
        throw Error(tensor->place(),
                    "has type " + tensor->type_name + "; this version imports F32, F16 and BF16");
    }
    used_.insert(name);
    return *tensor;
}

/// Gives the tensor to the builder (interleaved where RoPE turns it) and to the
/// digest (half-split there).
Ref LlamaImport::add(const SourceTensor& tensor, const std::string& canonical,
                     const TensorRule& rule) {
    const bool matrix = tensor.shape.size() == 2;
    const auto order = [&](m4_row_order turned) {
        return rule.rotated ? turned : M4_ROW_ORDER_NONE;
    };
    const std::uint32_t head_dim = rule.rotated ? config_.head_dim : 0;
    const auto have = order(source_.rotated_order);
    const auto rows = [&](m4_row_order want) {
        return reordered_rows(source_.checkpoint, tensor, head_dim, order(want), have);
    };
    digest_.push_back({canonical, tensor.shape, rows(M4_ROW_ORDER_HALF_SPLIT)});
    parameters_ += tensor.element_count();
    TensorSpec spec;
    spec.name = canonical;
    spec.dtype = matrix ? stored_type(tensor, options_.stored) : M4_DTYPE_F32;
    spec.layout = matrix ? M4_LAYOUT_ROWS16 : M4_LAYOUT_PLAIN;
    spec.row_order = order(M4_ROW_ORDER_INTERLEAVED);
    spec.head_dim = head_dim;
    spec.part = part_;
    spec.shape = tensor.shape;
    auto blocks = reordered_blocks(source_.checkpoint, tensor, head_dim,
                                   order(M4_ROW_ORDER_INTERLEAVED), have, spec.dtype);
    return ProgramBuilder::tensor(
        builder_.add_tensor(std::move(spec), rows(M4_ROW_ORDER_INTERLEAVED), std::move(blocks)));
}

Ref LlamaImport::norm(const TensorRule& rule, std::uint32_t layer) {
    const auto name = layer_name(source_.hf_names ? rule.hf : rule.gguf, layer);
    return add(require(name, rule.rows, Extent::none), layer_name(rule.hf, layer), rule);
}

Projection LlamaImport::projection(const TensorRule& rule, std::uint32_t layer) {
    const auto name = layer_name(source_.hf_names ? rule.hf : rule.gguf, layer);
    const auto canonical = layer_name(rule.hf, layer);
    Projection out;
    out.weight = add(require(name, rule.rows, rule.columns), canonical, rule);
    out.rows = extent(rule.rows);
    if ((rule.bias == Bias::attention && config_.attention_bias) ||
        (rule.bias == Bias::mlp && config_.mlp_bias)) {
        out.bias =
            add(require(bias_name(name), rule.rows, Extent::none), bias_name(canonical), rule);
    }
    return out;
}

/// A tied output is the embedding itself; a copy of it in the file must be one.
Projection LlamaImport::output(const Projection& embedding) {
    if (!config_.tied) {
        return projection(kOutput);
    }
    const auto* names = source_.hf_names ? kOutput.hf : kOutput.gguf;
    if (source_.checkpoint->find(names) != nullptr) {
        const auto& copy = require(names, kOutput.rows, kOutput.columns);
        const auto* original =
            source_.checkpoint->find(source_.hf_names ? kEmbedding.hf : kEmbedding.gguf);
        if (copy.type != original->type || copy.bytes.size() != original->bytes.size() ||
            std::memcmp(copy.bytes.data(), original->bytes.data(), copy.bytes.size()) != 0) {
            throw Error(copy.place(),
                        "differs from the embedding though the configuration ties them");
        }
    }
    return embedding;
}

Ref LlamaImport::add_rope_table() {
    auto table = rope_table(rope_frequencies(config_.rope, config_.head_dim), config_.context);
    TensorSpec spec;
    spec.name = "rope_table";
    spec.part = part_;
    spec.shape = table.shape;
    return ProgramBuilder::tensor(builder_.add_tensor(std::move(spec), std::move(table.rows)));
}

Ref LlamaImport::emit_layer(ProgramBuilder& program, Ref x, std::uint32_t layer) {
    const auto apply = [&](Ref in, const TensorRule& rule) {
        const auto p = projection(rule, layer);
        return program.linear(in, p.weight, p.bias, p.rows);
    };
    const auto turn = [&](Ref in, std::uint32_t heads) {
        return program.rope(in, positions_, rope_, heads, config_.head_dim, kRopeFineRows);
    };
    const auto cache = program.state(config_.kv_heads, config_.head_dim);
    auto h = program.rms_norm(x, norm(kAttentionNorm, layer), config_.eps);
    const auto q_plain = apply(h, kQ);
    const auto k_plain = apply(h, kK);
    const auto v = apply(h, kV);
    const auto q = turn(q_plain, config_.heads);
    const auto k = turn(k_plain, config_.kv_heads);
    program.kv_write(cache, k, v, positions_);
    const double scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim));
    h = apply(program.attention(q, cache, positions_, config_.heads, scale), kO);
    x = program.add(x, h);
    h = program.rms_norm(x, norm(kFfnNorm, layer), config_.eps);
    const auto gate = apply(h, kGate);
    const auto up = apply(h, kUp);
    h = program.mul(program.activation(gate, Activation::silu), up);
    return program.add(x, apply(h, kDown));
}

void LlamaImport::refuse_leftovers() const {
    for (const auto& tensor : source_.checkpoint->tensors()) {
        if (!used_.contains(tensor.name) && !is_derived(tensor.name)) {
            throw Error(tensor.place(), "is no part of a llama of this configuration");
        }
    }
}

void LlamaImport::run() {
    ProgramBuilder program("forward");
    const auto token_ids = program.input(Role::token_ids, Symbol::tokens);
    positions_ = program.input(Role::positions, Symbol::tokens);
    const auto output_rows = program.input(Role::output_rows, Symbol::outputs);
    const auto embedding = projection(kEmbedding);
    rope_ = add_rope_table();
    auto x = program.gather_rows(embedding.weight, token_ids, config_.dim);
    program.embedded_rows(x);
    for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
        x = emit_layer(program, x, layer);
    }
    // Only the rows that are asked for pay for the vocabulary.
    x = program.gather_rows(x, output_rows, config_.dim);
    x = program.rms_norm(x, norm(kFinalNorm), config_.eps);
    const auto head = output(embedding);
    program.output(Role::logits, program.linear(x, head.weight, Ref{}, head.rows));
    refuse_leftovers();

    Part part;
    part.name = options_.part_name.empty() ? "backbone" : options_.part_name;
    part.kind = PartKind::backbone;
    part.architecture = "llama";
    part.source_digest = source_digest(std::move(digest_));
    part.parameters = parameters_;
    part.context_length = config_.context;
    part.vocabulary = config_.vocabulary;
    part.tokenizer_tensor = builder_.add_section("tokenizer", part_, source_.tokenizer);
    part.programs.push_back(program.finish());
    builder_.add_part(std::move(part));
}

}  // namespace

std::optional<std::string> llama_projection_name(std::string_view gguf) {
    constexpr std::string_view kBlock = "blk.";
    if (gguf == kOutput.gguf) {
        return kOutput.hf;
    }
    const auto dot = gguf.find('.', kBlock.size());
    const auto number = gguf.substr(std::min(kBlock.size(), gguf.size()), dot - kBlock.size());
    const bool layer = gguf.starts_with(kBlock) && dot != std::string_view::npos &&
                       !number.empty() && number.size() < 9 &&
                       number.find_first_not_of("0123456789") == std::string_view::npos;
    if (!layer) {
        return std::nullopt;
    }
    const auto index = static_cast<std::uint32_t>(std::stoul(std::string(number)));
    for (const TensorRule* rule : {&kQ, &kK, &kV, &kO, &kGate, &kUp, &kDown}) {
        if (layer_name(rule->gguf, index) == gguf) {
            return layer_name(rule->hf, index);
        }
    }
    return std::nullopt;
}

void import_llama(const LlamaSource& source, const ImportOptions& options, ImageBuilder& builder) {
    LlamaImport(source, options, builder).run();
}

void import_llama(const GgufFile& file, const ImportOptions& options, ImageBuilder& builder) {
    LlamaSource source;
    source.config = read_llama_config(file);
    source.checkpoint = file.checkpoint();
    source.tokenizer =
        build_tokenizer_section(read_gguf_tokenizer(file), source.config.vocabulary, file.place());
    import_llama(source, options, builder);
}

void import_llama(const std::filesystem::path& folder, const JsonObject& config,
                  const ImportOptions& options, ImageBuilder& builder) {
    LlamaSource source;
    source.config = read_llama_config(config);
    source.checkpoint = open_safetensors_folder(folder);
    source.hf_names = true;
    source.rotated_order = M4_ROW_ORDER_HALF_SPLIT;
    source.tokenizer = build_tokenizer_section(read_folder_tokenizer(folder),
                                               source.config.vocabulary, folder.string());
    import_llama(source, options, builder);
}

}  // namespace m4::firmware
