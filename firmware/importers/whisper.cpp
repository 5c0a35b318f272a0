// SPDX-License-Identifier: MIT
// Whisper's encoder, by Hugging Face's names. Its two convolutions are windows and
// a matrix each: the first over planes, one a mel bin; the second over rows, one a
// frame, so that its weights lie tap by tap instead of channel by channel.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <string>

#include "encoders.hpp"
#include "json_file.hpp"
#include "lib/error.hpp"
#include "mapped_file.hpp"
#include "recipes.hpp"
#include "transformer.hpp"
#include "whisper.hpp"

namespace m4::firmware {

namespace {

using Ref = ProgramBuilder::Ref;

constexpr double kEps = 1e-5;
constexpr std::uint64_t kTaps = 3;
const std::string kRoot = "model.encoder.";

/// config.json of its folder, or the file's own, NAME.config.json.
JsonObject read_config(const std::filesystem::path& file) {
    return JsonObject::read(beside(file, "config.json"));
}

class WhisperImport {
   public:
    WhisperImport(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder)
        : source_(source),
          options_(options),
          config_(read_config(source.file)),
          builder_(builder),
          tensors_(source.checkpoint, options, builder),
          program_("encode"),
          width_(positive("d_model")),
          transformer_(tensors_, program_, width_) {}

    void run() {
        const std::uint32_t bins = positive("num_mel_bins");
        const std::uint32_t rows = positive("max_source_positions");
        const auto function = config_.string_value("activation_function").value_or("gelu");
        if (function != "gelu") {
            throw Error(config_.key_place("activation_function"),
                        shown(function) + " is not supported; supported: gelu");
        }
        // Features: a plane a mel bin, of two frames a row that comes out.
        auto x = program_.features(bins, 2 * rows);
        x = program_.unfold(x,
                            {.channels = bins, .width = 2 * rows, .kernel_w = kTaps, .pad_w = 1});
        x = convolve(x, tensors_.matrix(kRoot + "conv1.weight", {width_, bins, kTaps}), "conv1");
        x = program_.unfold(x, {.height = 2 * rows,
                                .width = width_,
                                .kernel_h = kTaps,
                                .kernel_w = width_,
                                .stride_h = 2,
                                .pad_h = 1});
        x = convolve(x, tap_by_tap(kRoot + "conv2.weight"), "conv2");
        x = program_.add(x, tensors_.table(kRoot + "embed_positions.weight", {rows, width_}));
        for (std::uint32_t i = 0; i < positive("encoder_layers"); ++i) {
            x = layer(x, kRoot + "layers." + std::to_string(i) + ".");
        }
        x = norm(x, kRoot + "layer_norm");
        program_.output(Role::hidden, x);
        const std::string name = options_.part_name.empty() ? "speech" : options_.part_name;
        const bool decodes = has_whisper_decoder(*source_.checkpoint);
        tensors_.finish({.part_name = name,
                         .architecture = "whisper",
                         .ignored = {"model.decoder.", "proj_out."},
                         .recipe = whisper_recipe(bins, 2 * rows),
                         .space = decodes ? name : std::string()},
                        program_.finish());
        if (decodes) {
            import_whisper_decoder(source_, config_, options_, name, builder_);
        }
    }

   private:
    [[nodiscard]] std::uint32_t positive(const std::string& key) const {
        return whisper_size(config_, key);
    }

    Ref convolve(Ref windows, Ref matrix, const std::string& name) {
        const Ref bias = tensors_.vector(kRoot + name + ".bias", width_);
        return program_.activation(program_.linear(windows, matrix, bias, width_),
                                   Activation::gelu);
    }

    Ref tap_by_tap(const std::string& name) {
        const std::uint64_t width = width_;
        const SourceTensor& tensor = tensors_.require(name, {width, width, kTaps});
        return tensors_.made_matrix(
            name, {width, kTaps * width},
            [checkpoint = source_.checkpoint, from = &tensor, width](
                std::uint64_t first, std::uint64_t count, std::span<float> out) {
                std::vector<float> row(width * kTaps);
                for (std::uint64_t r = 0; r < count; ++r) {
                    from->read((first + r) * row.size(), row);
                    for (std::uint64_t i = 0; i < row.size(); ++i) {
                        out[r * row.size() + i % kTaps * width + i / kTaps] = row[i];
                    }
                }
            });
    }

    Ref norm(Ref x, const std::string& name) {
        return transformer_.norm(x, name + ".weight", name + ".bias", kEps);
    }

    Ref layer(Ref x, const std::string& at) {
        const std::uint32_t heads = positive("encoder_attention_heads");
        if (width_ % heads != 0) {
            throw Error(config_.key_place("encoder_attention_heads"),
                        std::to_string(heads) + " heads do not divide " + std::to_string(width_));
        }
        const auto project = [&](Ref in, const std::string& name, bool bias) {
            return transformer_.linear(in, at + "self_attn." + name + ".weight",
                                       bias ? at + "self_attn." + name + ".bias" : "", width_,
                                       width_);
        };
        auto h = norm(x, at + "self_attn_layer_norm");
        const Ref q = project(h, "q_proj", true);
        const Ref k = project(h, "k_proj", false);
        const Ref v = project(h, "v_proj", true);
        const double scale = 1 / std::sqrt(static_cast<double>(width_) / heads);
        h = program_.self_attention(q, k, v, {.heads = heads, .kv_heads = heads, .scale = scale});
        x = program_.add(x, project(h, "out_proj", true));
        h = transformer_.feed_forward(norm(x, at + "final_layer_norm"),
                                      {.in_weight = at + "fc1.weight",
                                       .in_bias = at + "fc1.bias",
                                       .out_weight = at + "fc2.weight",
                                       .out_bias = at + "fc2.bias",
                                       .width = positive("encoder_ffn_dim")});
        return program_.add(x, h);
    }

    const EncoderSource& source_;
    const ImportOptions& options_;
    JsonObject config_;
    ImageBuilder& builder_;
    EncoderTensors tensors_;
    ProgramBuilder program_;
    std::uint32_t width_;
    Transformer transformer_;
};

}  // namespace

std::filesystem::path beside(const std::filesystem::path& file, const std::string& name) {
    auto own = file;
    own.replace_extension("." + name);
    return is_there(own) ? own : file.parent_path() / name;
}

std::uint32_t whisper_size(const JsonObject& config, const std::string& key) {
    constexpr std::uint64_t kMost = 1U << 20U;
    const auto value = config.unsigned_value(key);
    if (!value || *value == 0 || *value > kMost) {
        throw Error(config.key_place(key), "has to be there, 1 to 2^20");
    }
    return static_cast<std::uint32_t>(*value);
}

void import_whisper(const EncoderSource& source, const ImportOptions& options,
                    ImageBuilder& builder) {
    WhisperImport(source, options, builder).run();
}

}  // namespace m4::firmware
