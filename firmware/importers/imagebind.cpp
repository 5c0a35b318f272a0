// SPDX-License-Identifier: MIT
// ImageBind's image, text, audio and IMU trunks. They differ in how an input becomes
// rows (the stem), and in a few ways that are data here.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "encoder_files.hpp"
#include "encoders.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"
#include "recipes.hpp"
#include "transformer.hpp"

namespace m4::firmware {

namespace {

using Ref = ProgramBuilder::Ref;

constexpr double kEps = 1e-6;
constexpr double kStemEps = 1e-5;
constexpr double kLargestScale = 100;

/// What differs between the trunks.
struct Trunk {
    const char* name = nullptr;
    const char* part = nullptr;
    const char* stem = nullptr;  ///< below the modality's preprocessor: its projection, or
                                 ///< of text the embedding of tokens
    std::vector<std::uint64_t> kernel = {};  ///< shape of that, behind its first dimension
    const char* stem_norm = nullptr;
    const char* places = nullptr;  ///< positions, below the preprocessor
    std::string head_norm = "0";   ///< below the modality's head
    std::string head = {};         ///< the projection behind it
    ProgramBuilder::Windows windows = {};
    Recipe recipe = {};
    bool text = false;         ///< tokens, each looking back only; the last stands for all
    bool key_row = false;      ///< a learned key and value in each block
    bool norm_before = false;  ///< of the trunk
    std::uint32_t published_width = 0;
    std::uint32_t published_heads = 0;
};

const std::vector<Trunk>& trunks() {
    static const std::vector<Trunk> all = {
        // Two frames of a clip: an image stands for both, so their kernels add up.
        {.name = "vision",
         .part = "image",
         .stem = "rgbt_stem.proj.1.weight",
         .kernel = {3, 2, 14, 14},
         .places = "pos_embedding_helper.pos_embed",
         .head = "2",
         .windows = {.channels = 3,
                     .height = 224,
                     .width = 224,
                     .kernel_h = 14,
                     .kernel_w = 14,
                     .stride_h = 14,
                     .stride_w = 14},
         .recipe = clip_image_recipe(224),
         .norm_before = true,
         .published_width = 1280,
         .published_heads = 16},
        {.name = "text",
         .part = "text",
         .stem = "token_embedding.weight",
         .places = "pos_embed",
         .head_norm = "proj.0",
         .head = "proj.1",
         .text = true,
         .published_width = 1024,
         .published_heads = 16},
        {.name = "audio",
         .part = "audio",
         .stem = "rgbt_stem.proj.weight",
         .kernel = {1, 16, 16},
         .stem_norm = "rgbt_stem.norm_layer",
         .places = "pos_embedding_helper.pos_embed",
         .head = "2",
         .windows = {.height = 128,
                     .width = 204,
                     .kernel_h = 16,
                     .kernel_w = 16,
                     .stride_h = 10,
                     .stride_w = 10},
         .recipe = imagebind_audio_recipe(),
         .key_row = true,
         .published_width = 768,
         .published_heads = 12},
        {.name = "imu",
         .part = "imu",
         .stem = "imu_stem.proj.weight",
         .kernel = {48},
         .stem_norm = "imu_stem.norm_layer",
         .places = "pos_embed",
         .head = "3",
         .windows = {.channels = 6, .width = 2000, .kernel_w = 8, .stride_w = 8},
         .recipe = imagebind_motion_recipe(),
         .key_row = true,
         .published_width = 512,
         .published_heads = 8},
    };
    return all;
}

/// Modalities that M4 has not.
const std::vector<std::string>& other_modalities() {
    static const std::vector<std::string> all = {"depth", "thermal"};
    return all;
}

std::vector<std::string> prefixes(const std::string& modality) {
    return {"modality_preprocessors." + modality + ".", "modality_trunks." + modality + ".",
            "modality_heads." + modality + ".", "modality_postprocessors." + modality + "."};
}

class TrunkImport {
   public:
    TrunkImport(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder,
                const Trunk& trunk)
        : source_(source),
          options_(options),
          trunk_(trunk),
          tensors_(source.checkpoint, options, builder),
          program_("encode"),
          before_("modality_preprocessors." + std::string(trunk.name) + "."),
          blocks_("modality_trunks." + std::string(trunk.name) + "."),
          width_(static_cast<std::uint32_t>(trunk.text ? find(before_ + trunk.stem).shape.back()
                                                       : find(before_ + trunk.stem).shape[0])),
          transformer_(tensors_, program_, width_) {}

    void run() {
        const SourceTensor& places = find(before_ + trunk_.places);
        const std::uint64_t rows = places.element_count() / places.shape.back();
        TextSizes text;
        if (trunk_.text) {
            const std::uint64_t vocabulary = find(before_ + trunk_.stem).shape[0];
            text = {static_cast<std::uint32_t>(vocabulary), static_cast<std::uint32_t>(rows),
                    clip_tokenizer_beside(source_.file, options_, vocabulary)};
        }
        auto x = trunk_.text ? tokens(text) : stem();
        x = program_.add(x, tensors_.table(before_ + trunk_.places, places.shape));
        if (trunk_.norm_before) {
            x = transformer_.norm(x, blocks_ + "pre_transformer_layer.0.weight",
                                  blocks_ + "pre_transformer_layer.0.bias", kEps);
        }
        const std::uint32_t heads = head_count();
        for (std::uint32_t i = 0; source_.checkpoint->find(block_name(i) + "norm_1.weight"); ++i) {
            x = block(x, block_name(i), heads);
        }
        program_.output(Role::embedding, head(x));
        // The mask is what `causal` says.
        std::vector<std::string> ignored = {before_ + "mask"};
        for (const Trunk& other : trunks()) {
            const auto of_other = prefixes(other.name);
            if (&other != &trunk_) {
                ignored.insert(ignored.end(), of_other.begin(), of_other.end());
            }
        }
        for (const std::string& other : other_modalities()) {
            const auto of_other = prefixes(other);
            ignored.insert(ignored.end(), of_other.begin(), of_other.end());
        }
        const std::string sense = trunk_.part;
        const std::string& name = options_.part_name;
        tensors_.finish({.part_name = name.empty() ? sense : name + "-" + sense,
                         .architecture = "imagebind",
                         .ignored = std::move(ignored),
                         .text = text,
                         .recipe = text.tokenizer.empty() ? trunk_.recipe : Recipe(TextRecipe{0}),
                         .space = name.empty() ? "imagebind" : name},
                        program_.finish());
    }

   private:
    [[nodiscard]] const SourceTensor& find(const std::string& name) const {
        const SourceTensor* tensor = source_.checkpoint->find(name);
        if (tensor == nullptr || tensor->shape.empty()) {
            throw Error(source_.checkpoint->place() + ": tensor '" + name + "'", "is missing");
        }
        return *tensor;
    }
    [[nodiscard]] std::string block_name(std::uint32_t i) const {
        return blocks_ + "blocks." + std::to_string(i) + ".";
    }

    Ref tokens(const TextSizes& text) {
        const Ref ids = program_.input(Role::token_ids, Symbol::items, text.context);
        const Ref table =
            tensors_.matrix(before_ + trunk_.stem, {std::uint64_t{text.vocabulary}, width_});
        return program_.gather_rows(table, ids, width_);
    }

    /// An input as rows, the class token before them.
    Ref stem() {
        const ProgramBuilder::Windows& windows = trunk_.windows;
        auto x = program_.features(windows.channels * windows.height, windows.width);
        x = program_.unfold(x, windows);
        x = program_.linear(x, stem_matrix(), {}, width_);
        if (trunk_.stem_norm != nullptr) {
            const std::string name = before_ + trunk_.stem_norm;
            x = transformer_.norm(x, name + ".weight", name + ".bias", kStemEps);
        }
        return program_.prepend(x, tensors_.table(before_ + "cls_token", {1, 1, width_}), 1);
    }

    Ref stem_matrix() {
        const std::string name = before_ + trunk_.stem;
        std::vector<std::uint64_t> shape = trunk_.kernel;
        shape.insert(shape.begin(), width_);
        if (shape.size() < 5) {
            return tensors_.matrix(name, shape);
        }
        const SourceTensor& tensor = tensors_.require(name, shape);
        const std::uint64_t plane = shape[3] * shape[4];
        const std::uint64_t columns = shape[1] * plane;
        const std::uint64_t frames = shape[2];
        return tensors_.made_matrix(
            name, {width_, columns},
            [checkpoint = source_.checkpoint, from = &tensor, plane, columns, frames](
                std::uint64_t first, std::uint64_t count, std::span<float> out) {
                std::vector<float> frame(plane);
                std::fill(out.begin(), out.end(), 0.0F);
                for (std::uint64_t at = 0; at < count * columns; at += plane) {
                    for (std::uint64_t i = 0; i < frames; ++i) {
                        from->read(((first * columns + at) * frames) + i * plane, frame);
                        for (std::uint64_t j = 0; j < plane; ++j) {
                            out[at + j] += frame[j];
                        }
                    }
                }
            });
    }

    Ref block(Ref x, const std::string& at, std::uint32_t heads) {
        auto h = transformer_.norm(x, at + "norm_1.weight", at + "norm_1.bias", kEps);
        h = transformer_.attention(h, {.weight = at + "attn.in_proj_weight",
                                       .bias = at + "attn.in_proj_bias",
                                       .out_weight = at + "attn.out_proj.weight",
                                       .out_bias = at + "attn.out_proj.bias",
                                       .key_row = trunk_.key_row ? at + "attn.bias_k" : "",
                                       .value_row = trunk_.key_row ? at + "attn.bias_v" : "",
                                       .heads = heads,
                                       .causal = trunk_.text});
        x = program_.add(x, h);
        h = transformer_.norm(x, at + "norm_2.weight", at + "norm_2.bias", kEps);
        h = transformer_.feed_forward(h, {.in_weight = at + "mlp.fc1.weight",
                                          .in_bias = at + "mlp.fc1.bias",
                                          .out_weight = at + "mlp.fc2.weight",
                                          .out_bias = at + "mlp.fc2.bias",
                                          .width = find(at + "mlp.fc1.weight").shape[0]});
        return program_.add(x, h);
    }

    Ref head(Ref x) {
        const std::string name = "modality_heads." + std::string(trunk_.name) + ".";
        // The norm is row by row: of one row it costs one.
        x = trunk_.text
                ? program_.gather_rows(x, program_.input(Role::picked_rows, Symbol::items), width_)
                : program_.select_row(x, 0);
        x = transformer_.norm(x, name + trunk_.head_norm + ".weight",
                              name + trunk_.head_norm + ".bias", kEps);
        const std::string projection = name + trunk_.head + ".weight";
        const std::uint64_t shared = find(projection).shape[0];
        x = transformer_.linear(x, projection, "", shared, width_);
        return program_.l2_norm(x, scale());
    }

    double scale() {
        const std::string name =
            "modality_postprocessors." + std::string(trunk_.name) + ".1.log_logit_scale";
        if (source_.checkpoint->find(name) == nullptr) {
            return 1;
        }
        float logarithm = 0;
        tensors_.require(name, {1}).read(0, {&logarithm, 1});
        return std::min(std::exp(static_cast<double>(logarithm)), kLargestScale);
    }

    std::uint32_t head_count() const {
        auto beside = source_.file;
        beside.replace_extension(".json");
        const std::string key = std::string(trunk_.name) + "_num_heads";
        std::uint64_t heads = width_ == trunk_.published_width ? trunk_.published_heads : 0;
        if (is_there(beside)) {
            heads = JsonObject::read(beside).unsigned_value(key).value_or(heads);
        }
        if (heads == 0 || width_ % heads != 0) {
            throw Error(beside.string() + ": key '" + key + "'",
                        "has to say how many heads a width of " + std::to_string(width_) +
                            " has; it is none of the published ones");
        }
        return static_cast<std::uint32_t>(heads);
    }

    const EncoderSource& source_;
    const ImportOptions& options_;
    const Trunk& trunk_;
    EncoderTensors tensors_;
    ProgramBuilder program_;
    std::string before_;
    std::string blocks_;
    std::uint32_t width_;
    Transformer transformer_;
};

}  // namespace

void import_imagebind(const EncoderSource& source, const ImportOptions& options,
                      ImageBuilder& builder) {
    bool found = false;
    for (const Trunk& trunk : trunks()) {
        const std::string stem =
            "modality_preprocessors." + std::string(trunk.name) + "." + trunk.stem;
        if (source.checkpoint->find(stem) != nullptr) {
            TrunkImport(source, options, builder, trunk).run();
            found = true;
        }
    }
    if (!found) {
        throw Error(source.checkpoint->place(), "has no trunk of image, text, audio or IMU");
    }
}

}  // namespace m4::firmware
