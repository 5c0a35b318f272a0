// SPDX-License-Identifier: MIT
// Whisper's decoder, by Hugging Face's names. Keys and values of the encoder's rows
// are one program, run once an input; tokens are another, and both have the same
// states: of each layer the tokens' and the rows'.
#include <algorithm>
#include <cmath>

#include "byte_tokenizer.hpp"
#include "lib/error.hpp"
#include "transformer.hpp"
#include "whisper.hpp"

namespace m4::firmware {

namespace {

using Ref = ProgramBuilder::Ref;

constexpr double kEps = 1e-5;
const std::string kRoot = "model.decoder.";

class WhisperDecoder {
   public:
    WhisperDecoder(const EncoderSource& source, const JsonObject& config,
                   const ImportOptions& options, ImageBuilder& builder)
        : source_(source),
          options_(options),
          config_(config),
          tensors_(source.checkpoint, options, builder),
          prepare_("prepare"),
          forward_("forward"),
          width_(whisper_size(config, "d_model")),
          heads_(whisper_size(config, "decoder_attention_heads")),
          to_memory_(tensors_, prepare_, width_),
          to_tokens_(tensors_, forward_, width_) {
        if (width_ % heads_ != 0) {
            throw Error(config.key_place("decoder_attention_heads"),
                        std::to_string(heads_) + " heads do not divide " + std::to_string(width_));
        }
        if (config.bool_value("scale_embedding").value_or(false)) {
            throw Error(config.key_place("scale_embedding"), "true is not supported");
        }
    }

    void run(const std::string& encoder) {
        const std::uint32_t vocabulary = whisper_size(config_, "vocab_size");
        const std::uint32_t context = whisper_size(config_, "max_target_positions");
        const Ref rows = prepare_.memory_features(width_);
        const Ref row_positions = prepare_.input(Role::positions, Symbol::tokens);
        const Ref ids = forward_.input(Role::token_ids, Symbol::tokens);
        positions_ = forward_.input(Role::positions, Symbol::tokens);
        const Ref wanted = forward_.input(Role::output_rows, Symbol::outputs);
        last_row_ = forward_.input(Role::memory_positions, Symbol::tokens);

        const Ref embedding = tensors_.matrix(kRoot + "embed_tokens.weight", {vocabulary, width_});
        const Ref places = tensors_.matrix(kRoot + "embed_positions.weight", {context, width_});
        Ref x = forward_.add(forward_.gather_rows(embedding, ids, width_),
                             forward_.gather_rows(places, positions_, width_));
        const std::uint32_t layers = whisper_size(config_, "decoder_layers");
        for (std::uint32_t i = 0; i < layers; ++i) {
            const std::string at = kRoot + "layers." + std::to_string(i) + ".";
            x = layer(x, at);
            remember(rows, row_positions, at);
        }
        x = norm(forward_.gather_rows(x, wanted, width_), kRoot + "layer_norm");
        forward_.output(Role::logits, forward_.linear(x, output_matrix(embedding, vocabulary),
                                                      ProgramBuilder::none(), vocabulary));
        std::vector<Program> programs;
        programs.push_back(prepare_.finish());
        programs.push_back(forward_.finish());
        tensors_.finish({.part_name = encoder + "-text",
                         .architecture = "whisper",
                         .kind = PartKind::decoder,
                         .ignored = {"model.encoder.", "proj_out."},
                         .text = {.vocabulary = vocabulary,
                                  .context = context,
                                  .tokenizer = tokenizer(vocabulary)},
                         .space = encoder,
                         .memory_rows = whisper_size(config_, "max_source_positions"),
                         .transcription = whisper_transcription(source_.file, config_, vocabulary)},
                        std::move(programs));
    }

   private:
    /// Its section; empty: there is none, and the part gives ids only.
    [[nodiscard]] std::vector<std::byte> tokenizer(std::uint32_t vocabulary) const {
        const auto file = options_.tokenizer.empty()
                              ? find_byte_vocabulary(source_.file)
                              : std::optional<std::filesystem::path>(options_.tokenizer);
        return file ? read_byte_vocabulary(*file, vocabulary) : std::vector<std::byte>();
    }

    /// The embedding, unless the configuration says that it is another's.
    Ref output_matrix(Ref embedding, std::uint32_t vocabulary) {
        return config_.bool_value("tie_word_embeddings").value_or(true)
                   ? embedding
                   : tensors_.matrix("proj_out.weight", {vocabulary, width_});
    }

    Ref norm(Ref x, const std::string& name) {
        return to_tokens_.norm(x, name + ".weight", name + ".bias", kEps);
    }

    Ref project(Transformer& transformer, Ref x, const std::string& name, bool bias = true) {
        return transformer.linear(x, name + ".weight", bias ? name + ".bias" : "", width_, width_);
    }

    [[nodiscard]] double scale() const {
        return 1 / std::sqrt(static_cast<double>(width_) / heads_);
    }

    /// The same in both programs.
    Ref state(StateKind kind) {
        (void)prepare_.state(heads_, width_ / heads_, kind);
        return forward_.state(heads_, width_ / heads_, kind);
    }

    Ref layer(Ref x, const std::string& at) {
        const Ref own = state(StateKind::kv_cache);
        memory_ = state(StateKind::memory);
        Ref h = norm(x, at + "self_attn_layer_norm");
        const Ref q = project(to_tokens_, h, at + "self_attn.q_proj");
        const Ref k = project(to_tokens_, h, at + "self_attn.k_proj", false);
        forward_.kv_write(own, k, project(to_tokens_, h, at + "self_attn.v_proj"), positions_);
        h = forward_.attention(q, own, positions_, heads_, scale());
        x = forward_.add(project(to_tokens_, h, at + "self_attn.out_proj"), x);
        h = norm(x, at + "encoder_attn_layer_norm");
        h = forward_.attention(project(to_tokens_, h, at + "encoder_attn.q_proj"), memory_,
                               last_row_, heads_, scale());
        x = forward_.add(project(to_tokens_, h, at + "encoder_attn.out_proj"), x);
        h = to_tokens_.feed_forward(norm(x, at + "final_layer_norm"),
                                    {.in_weight = at + "fc1.weight",
                                     .in_bias = at + "fc1.bias",
                                     .out_weight = at + "fc2.weight",
                                     .out_bias = at + "fc2.bias",
                                     .width = whisper_size(config_, "decoder_ffn_dim")});
        return forward_.add(h, x);
    }

    /// Keys and values of the encoder's rows, for the layer just made.
    void remember(Ref rows, Ref row_positions, const std::string& at) {
        const Ref k = project(to_memory_, rows, at + "encoder_attn.k_proj", false);
        const Ref v = project(to_memory_, rows, at + "encoder_attn.v_proj");
        prepare_.kv_write(memory_, k, v, row_positions);
    }

    const EncoderSource& source_;
    const ImportOptions& options_;
    const JsonObject& config_;
    EncoderTensors tensors_;
    ProgramBuilder prepare_;
    ProgramBuilder forward_;
    std::uint32_t width_;
    std::uint32_t heads_;
    Transformer to_memory_;
    Transformer to_tokens_;
    Ref positions_;
    Ref last_row_;
    Ref memory_;
};

}  // namespace

bool has_whisper_decoder(const Checkpoint& checkpoint) {
    const auto& tensors = checkpoint.tensors();
    return std::any_of(tensors.begin(), tensors.end(), [](const SourceTensor& tensor) {
        return tensor.name.starts_with(kRoot + "layers.");
    });
}

void import_whisper_decoder(const EncoderSource& source, const JsonObject& config,
                            const ImportOptions& options, const std::string& encoder,
                            ImageBuilder& builder) {
    WhisperDecoder(source, config, options, builder).run(encoder);
}

}  // namespace m4::firmware
