// SPDX-License-Identifier: MIT
// CLIP's two trunks. openai's and Hugging Face's checkpoints differ in names, in
// whether q, k and v lie in one tensor and in which way the projections lie.
#include <cmath>
#include <string>

#include "encoder_files.hpp"
#include "encoders.hpp"
#include "lib/error.hpp"
#include "recipes.hpp"
#include "transformer.hpp"

namespace m4::firmware {

namespace {

using Ref = ProgramBuilder::Ref;

constexpr double kEps = 1e-5;
constexpr std::uint32_t kHeadWidth = 64;

/// Names of one trunk; `blocks` is followed by a number and what openai or Hugging
/// Face calls the tensors of a block.
struct Trunk {
    const char* sense;
    bool text;
    bool openai;
    const char* stem;  ///< patches' convolution, or embeddings of tokens
    const char* places;
    const char* class_row;
    const char* first_norm;  ///< of the image
    const char* blocks;
    const char* last_norm;
    const char* projection;
    const char* config;  ///< of config.json
};
constexpr Trunk kTrunks[] = {
    {"image", false, true, "visual.conv1.weight", "visual.positional_embedding",
     "visual.class_embedding", "visual.ln_pre", "visual.transformer.resblocks.", "visual.ln_post",
     "visual.proj", ""},
    {"text", true, true, "token_embedding.weight", "positional_embedding", "", "",
     "transformer.resblocks.", "ln_final", "text_projection", ""},
    {"image", false, false, "vision_model.embeddings.patch_embedding.weight",
     "vision_model.embeddings.position_embedding.weight", "vision_model.embeddings.class_embedding",
     "vision_model.pre_layrnorm",  // it is written so
     "vision_model.encoder.layers.", "vision_model.post_layernorm", "visual_projection.weight",
     "vision_config"},
    {"text", true, false, "text_model.embeddings.token_embedding.weight",
     "text_model.embeddings.position_embedding.weight", "", "", "text_model.encoder.layers.",
     "text_model.final_layer_norm", "text_projection.weight", "text_config"},
};

/// What belongs to the other trunk, and buffers that follow from the sizes.
std::vector<std::string> left_out(const Trunk& trunk) {
    std::vector<std::string> ignored =
        trunk.openai ? std::vector<std::string>{"input_resolution", "context_length", "vocab_size"}
                     : std::vector<std::string>{"text_model.embeddings.position_ids",
                                                "vision_model.embeddings.position_ids"};
    std::vector<std::string> other;
    if (trunk.text) {
        other = trunk.openai ? std::vector<std::string>{"visual."}
                             : std::vector<std::string>{"vision_model.", "visual_projection."};
    } else {
        other = trunk.openai
                    ? std::vector<std::string>{"token_embedding.", "positional_embedding",
                                               "transformer.", "ln_final.", "text_projection"}
                    : std::vector<std::string>{"text_model.", "text_projection."};
        other.emplace_back("logit_scale");
    }
    ignored.insert(ignored.end(), other.begin(), other.end());
    return ignored;
}

class TrunkImport {
   public:
    TrunkImport(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder,
                const JsonObject& config, const Trunk& trunk)
        : source_(source),
          options_(options),
          trunk_(trunk),
          config_(
              config.object_value(trunk.config)
                  .value_or(JsonObject(nlohmann::json::object(), config.key_place(trunk.config)))),
          tensors_(source.checkpoint, options, builder),
          program_("encode"),
          width_(static_cast<std::uint32_t>(
              trunk.text ? source_.checkpoint->of_rank(trunk.stem, 2).shape[1]
                         : source_.checkpoint->of_rank(trunk.stem, 4).shape[0])),
          transformer_(tensors_, program_, width_) {}

    void run() {
        EncoderProperties properties;
        const std::string& name = options_.part_name;
        properties.part_name = name.empty() ? trunk_.sense : name + "-" + trunk_.sense;
        properties.architecture = "clip";
        properties.space = name.empty() ? "clip" : name;
        properties.ignored = left_out(trunk_);
        auto x = trunk_.text ? tokens(properties) : patches(properties);
        const std::uint32_t heads = head_count();
        const Activation function = activation();
        for (std::uint32_t i = 0; source_.checkpoint->find(block_name(i) + mark()); ++i) {
            x = block(x, block_name(i), heads, function);
        }
        x = trunk_.text
                ? program_.gather_rows(x, program_.input(Role::picked_rows, Symbol::items), width_)
                : program_.select_row(x, 0);
        x = norm(x, trunk_.last_norm);
        program_.output(Role::embedding, program_.l2_norm(project(x), scale()));
        tensors_.finish(std::move(properties), program_.finish());
    }

   private:
    [[nodiscard]] std::string block_name(std::uint32_t i) const {
        return trunk_.blocks + std::to_string(i) + ".";
    }
    [[nodiscard]] const char* mark() const {
        return trunk_.openai ? "ln_1.weight" : "layer_norm1.weight";
    }

    Ref tokens(EncoderProperties& properties) {
        const std::uint64_t vocabulary = source_.checkpoint->of_rank(trunk_.stem, 2).shape[0];
        const std::uint64_t context = source_.checkpoint->of_rank(trunk_.places, 2).shape[0];
        properties.text = {static_cast<std::uint32_t>(vocabulary),
                           static_cast<std::uint32_t>(context),
                           clip_tokenizer_beside(source_.file, options_, vocabulary)};
        if (!properties.text.tokenizer.empty()) {
            properties.recipe = TextRecipe{0};
        }
        const Ref ids =
            program_.input(Role::token_ids, Symbol::items, static_cast<std::uint32_t>(context));
        const Ref x =
            program_.gather_rows(tensors_.matrix(trunk_.stem, {vocabulary, width_}), ids, width_);
        return program_.add(x, tensors_.table(trunk_.places, {context, width_}));
    }

    Ref patches(EncoderProperties& properties) {
        const SourceTensor& stem = source_.checkpoint->of_rank(trunk_.stem, 4);
        const SourceTensor& places = source_.checkpoint->of_rank(trunk_.places, 2);
        const std::uint32_t across = side_of(places.shape[0] - 1, places.place());
        const std::uint64_t pixels = stem.shape[2];
        if (pixels * across > kLargestSide) {
            throw Error(stem.place(), "makes pictures of more than " +
                                          std::to_string(kLargestSide) + " pixels a side");
        }
        const auto patch = static_cast<std::uint32_t>(pixels);
        const std::uint32_t side = patch * across;
        properties.recipe = image_recipe_beside(source_.file, side, clip_image_recipe(side));
        auto x = program_.features(3 * side, side);
        x = program_.unfold(x, {.channels = 3,
                                .height = side,
                                .width = side,
                                .kernel_h = patch,
                                .kernel_w = patch,
                                .stride_h = patch,
                                .stride_w = patch});
        x = program_.linear(x, tensors_.matrix(trunk_.stem, {width_, 3, patch, patch}), {}, width_);
        x = program_.prepend(x, tensors_.table(trunk_.class_row, {width_}), 1);
        x = program_.add(
            x, tensors_.table(trunk_.places, {std::uint64_t{across} * across + 1, width_}));
        return norm(x, trunk_.first_norm);
    }

    Ref norm(Ref x, const std::string& name) {
        const double eps = config_.real_value("layer_norm_eps").value_or(kEps);
        return transformer_.norm(x, name + ".weight", name + ".bias", eps);
    }

    Ref block(Ref x, const std::string& at, std::uint32_t heads, Activation function) {
        const bool openai = trunk_.openai;
        auto h = norm(x, at + (openai ? "ln_1" : "layer_norm1"));
        h = openai ? transformer_.attention(h, {.weight = at + "attn.in_proj_weight",
                                                .bias = at + "attn.in_proj_bias",
                                                .out_weight = at + "attn.out_proj.weight",
                                                .out_bias = at + "attn.out_proj.bias",
                                                .heads = heads,
                                                .causal = trunk_.text})
                   : transformer_.attention(
                         h, Transformer::SplitAttention{.query = at + "self_attn.q_proj",
                                                        .key = at + "self_attn.k_proj",
                                                        .value = at + "self_attn.v_proj",
                                                        .out = at + "self_attn.out_proj",
                                                        .heads = heads,
                                                        .causal = trunk_.text});
        x = program_.add(x, h);
        const std::string in = at + (openai ? "mlp.c_fc" : "mlp.fc1");
        const std::string out = at + (openai ? "mlp.c_proj" : "mlp.fc2");
        h = transformer_.feed_forward(
            norm(x, at + (openai ? "ln_2" : "layer_norm2")),
            {.in_weight = in + ".weight",
             .in_bias = in + ".bias",
             .out_weight = out + ".weight",
             .out_bias = out + ".bias",
             .width = source_.checkpoint->of_rank(in + ".weight", 2).shape[0],
             .function = function});
        return program_.add(x, h);
    }

    Ref project(Ref x) {
        const SourceTensor& tensor = source_.checkpoint->of_rank(trunk_.projection, 2);
        const std::uint64_t shared = tensor.shape[trunk_.openai ? 1 : 0];
        const Ref matrix = trunk_.openai ? tensors_.turned_matrix(trunk_.projection, width_, shared)
                                         : tensors_.matrix(trunk_.projection, {shared, width_});
        return program_.linear(x, matrix, {}, static_cast<std::uint32_t>(shared));
    }

    /// Of texts: their dot products with images are then the published logits.
    double scale() {
        const SourceTensor* tensor = source_.checkpoint->find("logit_scale");
        if (!trunk_.text || tensor == nullptr) {
            return 1;
        }
        float logarithm = 0;
        tensors_.require("logit_scale", {}).read(0, {&logarithm, 1});
        const double scale = std::exp(static_cast<double>(logarithm));
        if (!std::isfinite(scale) || scale <= 0) {
            throw Error(tensor->place(), "is no logarithm of a scale");
        }
        return scale;
    }

    [[nodiscard]] std::uint32_t head_count() const {
        const std::uint32_t heads =
            size_value(config_, "num_attention_heads", std::max(1U, width_ / kHeadWidth));
        if (width_ % heads != 0) {
            throw Error(config_.key_place("num_attention_heads"),
                        std::to_string(heads) + " heads do not divide " + std::to_string(width_));
        }
        return heads;
    }

    [[nodiscard]] Activation activation() const {
        const auto name = config_.string_value("hidden_act").value_or("quick_gelu");
        if (name == "quick_gelu") {
            return Activation::gelu_quick;
        }
        if (name != "gelu") {
            throw Error(config_.key_place("hidden_act"),
                        shown(name) + " is not supported; supported: gelu, quick_gelu");
        }
        return Activation::gelu;
    }

    static constexpr std::uint64_t kLargestSide = 4096;

    const EncoderSource& source_;
    const ImportOptions& options_;
    const Trunk& trunk_;
    JsonObject config_;
    EncoderTensors tensors_;
    ProgramBuilder program_;
    std::uint32_t width_;
    Transformer transformer_;
};

}  // namespace

void import_clip(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder) {
    bool found = false;
    for (const Trunk& trunk : kTrunks) {
        if (source.checkpoint->find(trunk.stem) != nullptr) {
            // openai's files say all by their shapes.
            const JsonObject config =
                trunk.openai ? JsonObject(nlohmann::json::object(), source.file.string())
                             : config_beside(source.file);
            TrunkImport(source, options, builder, config, trunk).run();
            found = true;
        }
    }
    if (!found) {
        throw Error(source.checkpoint->place(),
                    "has neither a trunk of texts nor one of images by a vision transformer");
    }
}

}  // namespace m4::firmware
