// SPDX-License-Identifier: MIT
// Classifiers by a vision transformer of norms before. Hugging Face's and timm's
// checkpoints differ in names and in whether q, k and v lie in one tensor.
#include <string>

#include "encoder_files.hpp"
#include "encoders.hpp"
#include "lib/error.hpp"
#include "recipes.hpp"
#include "transformer.hpp"

namespace m4::firmware {

namespace {

using Ref = ProgramBuilder::Ref;

constexpr std::uint64_t kLargestSide = 4096;
constexpr std::uint32_t kHugeWidth = 1280;  // the one published width with heads of 80
constexpr std::uint32_t kHugeHeads = 16;
constexpr std::uint32_t kHeadWidth = 64;

struct Names {
    bool split = false;  ///< q, k and v
    std::string patches;
    std::string places;
    std::string class_row;
    std::string distilled_row;
    std::string blocks;
    std::string attention;  ///< of q, k and v
    std::string attention_out;
    std::string first_norm;
    std::string second_norm;
    std::string first_linear;
    std::string second_linear;
    std::string norm;
    std::string head;            ///< on the class token
    std::string distilled_head;  ///< on the distillation token, or not there
    double eps = 0;
};

Names huggingface(const Checkpoint& checkpoint, const std::string& root) {
    const bool teacher = checkpoint.find("cls_classifier.weight") != nullptr;
    return {.split = true,
            .patches = root + "embeddings.patch_embeddings.projection",
            .places = root + "embeddings.position_embeddings",
            .class_row = root + "embeddings.cls_token",
            .distilled_row = root + "embeddings.distillation_token",
            .blocks = root + "encoder.layer.",
            .attention = "attention.attention.",
            .attention_out = "attention.output.dense",
            .first_norm = "layernorm_before",
            .second_norm = "layernorm_after",
            .first_linear = "intermediate.dense",
            .second_linear = "output.dense",
            .norm = root + "layernorm",
            .head = teacher ? "cls_classifier" : "classifier",
            .distilled_head = teacher ? "distillation_classifier" : "",
            .eps = 1e-12};
}

Names timm(const Checkpoint& checkpoint) {
    const bool teacher = checkpoint.find("head_dist.weight") != nullptr;
    return {.split = false,
            .patches = "patch_embed.proj",
            .places = "pos_embed",
            .class_row = "cls_token",
            .distilled_row = "dist_token",
            .blocks = "blocks.",
            .attention = "attn.qkv",
            .attention_out = "attn.proj",
            .first_norm = "norm1",
            .second_norm = "norm2",
            .first_linear = "mlp.fc1",
            .second_linear = "mlp.fc2",
            .norm = "norm",
            .head = "head",
            .distilled_head = teacher ? "head_dist" : "",
            .eps = 1e-6};
}

Names names_of(const Checkpoint& checkpoint) {
    for (const char* root : {"vit.", "deit."}) {
        if (checkpoint.find(std::string(root) + "embeddings.cls_token") != nullptr) {
            return huggingface(checkpoint, root);
        }
    }
    return timm(checkpoint);
}

class VitImport {
   public:
    VitImport(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder)
        : source_(source),
          options_(options),
          names_(names_of(*source.checkpoint)),
          config_(names_.split ? config_beside(source.file)
                               : JsonObject(nlohmann::json::object(), source.file.string())),
          tensors_(source.checkpoint, options, builder),
          program_("encode"),
          width_(static_cast<std::uint32_t>(
              source_.checkpoint->of_rank(names_.patches + ".weight", 4).shape[0])),
          transformer_(tensors_, program_, width_) {}

    void run() {
        EncoderProperties properties;
        properties.part_name = options_.part_name.empty() ? "image" : options_.part_name;
        properties.architecture = has(names_.distilled_row) ? "deit" : "vit";
        // Nothing reads it.
        properties.ignored = {"vit.pooler.", "deit.pooler."};
        auto x = patches(properties);
        const std::uint32_t heads = head_count();
        const Activation function = activation();
        for (std::uint32_t i = 0; has(block_name(i) + names_.first_norm + ".weight"); ++i) {
            x = block(x, block_name(i), heads, function);
        }
        finish(x, properties);
        tensors_.finish(std::move(properties), program_.finish());
    }

   private:
    [[nodiscard]] bool has(const std::string& name) const {
        return source_.checkpoint->find(name) != nullptr;
    }
    [[nodiscard]] std::string block_name(std::uint32_t i) const {
        return names_.blocks + std::to_string(i) + ".";
    }

    Ref patches(EncoderProperties& properties) {
        const SourceTensor& stem = source_.checkpoint->of_rank(names_.patches + ".weight", 4);
        const SourceTensor& places = source_.checkpoint->of_rank(names_.places, 3);
        const std::uint64_t channels = stem.shape[1];
        const std::uint64_t own = has(names_.distilled_row) ? 2 : 1;
        const std::uint32_t across =
            side_of(places.shape[1] < own ? 0 : places.shape[1] - own, places.place());
        if ((channels != 1 && channels != 3) || stem.shape[2] > kLargestSide / across) {
            throw Error(stem.place(), "is not of 1 or 3 channels and at most " +
                                          std::to_string(kLargestSide) + " pixels a side");
        }
        const auto patch = static_cast<std::uint32_t>(stem.shape[2]);
        const std::uint32_t side = patch * across;
        properties.recipe = recipe(side, static_cast<std::uint32_t>(channels));
        auto x = program_.features(static_cast<std::uint32_t>(channels) * side, side);
        x = program_.unfold(x, {.channels = static_cast<std::uint32_t>(channels),
                                .height = side,
                                .width = side,
                                .kernel_h = patch,
                                .kernel_w = patch,
                                .stride_h = patch,
                                .stride_w = patch});
        const Ref matrix =
            tensors_.matrix(names_.patches + ".weight", {width_, channels, patch, patch});
        x = program_.linear(x, matrix, tensors_.vector(names_.patches + ".bias", width_), width_);
        // The class token comes to stand before the other.
        if (own == 2) {
            x = program_.prepend(x, tensors_.table(names_.distilled_row, {1, 1, width_}), 1);
        }
        x = program_.prepend(x, tensors_.table(names_.class_row, {1, 1, width_}), 1);
        return program_.add(x, tensors_.table(names_.places, places.shape));
    }

    [[nodiscard]] ImageRecipe recipe(std::uint32_t side, std::uint32_t channels) const {
        ImageRecipe published =
            has(names_.distilled_row) ? deit_image_recipe(side) : vit_image_recipe(side);
        if (channels == 1) {
            published.channels = 1;
            published.mean.resize(1);
            published.std.resize(1);
        }
        return names_.split ? image_recipe_beside(source_.file, side, published) : published;
    }

    Ref norm(Ref x, const std::string& name) {
        const double eps = config_.real_value("layer_norm_eps").value_or(names_.eps);
        return transformer_.norm(x, name + ".weight", name + ".bias", eps);
    }

    Ref block(Ref x, const std::string& at, std::uint32_t heads, Activation function) {
        auto h = norm(x, at + names_.first_norm);
        const std::string attention = at + names_.attention;
        const std::string out = at + names_.attention_out;
        h = names_.split
                ? transformer_.attention(
                      h, Transformer::SplitAttention{.query = attention + "query",
                                                     .key = attention + "key",
                                                     .value = attention + "value",
                                                     .out = out,
                                                     .heads = heads,
                                                     .biases = has(attention + "query.bias")})
                : transformer_.attention(h, Transformer::Attention{.weight = attention + ".weight",
                                                                   .bias = attention + ".bias",
                                                                   .out_weight = out + ".weight",
                                                                   .out_bias = out + ".bias",
                                                                   .heads = heads});
        x = program_.add(x, h);
        const std::string first = at + names_.first_linear;
        const std::string second = at + names_.second_linear;
        h = transformer_.feed_forward(
            norm(x, at + names_.second_norm),
            {.in_weight = first + ".weight",
             .in_bias = first + ".bias",
             .out_weight = second + ".weight",
             .out_bias = second + ".bias",
             .width = source_.checkpoint->of_rank(first + ".weight", 2).shape[0],
             .function = function});
        return program_.add(x, h);
    }

    /// The norm is row by row: of one row it costs one. Of two heads the mean counts.
    void finish(Ref x, EncoderProperties& properties) {
        const std::uint64_t labels =
            source_.checkpoint->of_rank(names_.head + ".weight", 2).shape[0];
        properties.labels = labels_of(config_, labels);
        if (names_.distilled_head.empty()) {
            x = norm(program_.select_row(x, 0), names_.norm);
            program_.output(Role::embedding, x);
            program_.output(Role::scores,
                            transformer_.linear(x, names_.head + ".weight", names_.head + ".bias",
                                                labels, width_));
            return;
        }
        x = norm(x, names_.norm);
        const Ref first = program_.select_row(x, 0);
        program_.output(Role::embedding, first);
        const auto half = [&](Ref row, const std::string& name) {
            const Ref matrix = tensors_.scaled_matrix(name + ".weight", {labels, width_}, 0.5F);
            return program_.linear(row, matrix,
                                   tensors_.scaled_vector(name + ".bias", labels, 0.5F),
                                   static_cast<std::uint32_t>(labels));
        };
        const Ref of_first = half(first, names_.head);
        program_.output(Role::scores, program_.add(of_first, half(program_.select_row(x, 1),
                                                                  names_.distilled_head)));
    }

    [[nodiscard]] std::uint32_t head_count() const {
        const std::uint32_t published =
            width_ == kHugeWidth ? kHugeHeads : std::max(1U, width_ / kHeadWidth);
        const std::uint32_t heads = size_value(config_, "num_attention_heads", published);
        if (width_ % heads != 0) {
            throw Error(config_.key_place("num_attention_heads"),
                        std::to_string(heads) + " heads do not divide " + std::to_string(width_));
        }
        return heads;
    }

    [[nodiscard]] Activation activation() const {
        const auto name = config_.string_value("hidden_act").value_or("gelu");
        if (name != "gelu") {
            throw Error(config_.key_place("hidden_act"),
                        shown(name) + " is not supported; supported: gelu");
        }
        return Activation::gelu;
    }

    const EncoderSource& source_;
    const ImportOptions& options_;
    Names names_;
    JsonObject config_;
    EncoderTensors tensors_;
    ProgramBuilder program_;
    std::uint32_t width_;
    Transformer transformer_;
};

}  // namespace

void import_vit(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder) {
    VitImport(source, options, builder).run();
}

}  // namespace m4::firmware
