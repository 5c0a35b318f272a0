// SPDX-License-Identifier: MIT
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint.hpp"
#include "import.hpp"

namespace m4::firmware {

class ImageBuilder;

/// A checkpoint of an encoder in one safetensors file, which says what it is by
/// its tensors' names alone. `file`: where it lies, for what may lie beside it.
struct EncoderSource {
    std::filesystem::path file;
    std::shared_ptr<const Checkpoint> checkpoint;
};

/// LIMU-BERT (Xu et al., SenSys 2021): motion; 120 samples of 6 channels.
/// `hidden` of each sample, and their mean as `embedding`.
void import_limu_bert(const EncoderSource& source, const ImportOptions& options,
                      ImageBuilder& builder);

/// A small vision transformer with post-norm blocks of one head, GELU by tanh, a
/// mean over patches and a classifier. `embedding` and `scores`.
void import_mean_vit(const EncoderSource& source, const ImportOptions& options,
                     ImageBuilder& builder);

/// ImageBind (Girdhar et al., CVPR 2023): image, text, audio and IMU trunks, each a
/// part of its own; `embedding` in the shared space. Heads come from a file of the
/// same name that ends in .json, or by the published widths.
void import_imagebind(const EncoderSource& source, const ImportOptions& options,
                      ImageBuilder& builder);

/// Whisper (Radford et al., arXiv 2212.04356), by Hugging Face's names: an encoder of
/// log-mel features to `hidden` states and, where its layers are there, the decoder of
/// these to tokens, a part of its own. Sizes are those of config.json beside the file,
/// or of a file of its name that ends in .config.json; tokens those of
/// generation_config.json, found likewise.
void import_whisper(const EncoderSource& source, const ImportOptions& options,
                    ImageBuilder& builder);

/// CLIP with a vision transformer (Radford et al., arXiv 2103.00020), by openai's or
/// Hugging Face's names: parts of image and text, `embedding` in a space of their own.
void import_clip(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder);

/// Classifiers of images (ViT, arXiv 2010.11929; DeiT, arXiv 2012.12877), by Hugging
/// Face's or timm's names: `embedding`, the class token behind the last norm, and `scores`.
void import_vit(const EncoderSource& source, const ImportOptions& options, ImageBuilder& builder);

/// KWT-1 (Berg et al., Interspeech 2021), a .tflite file with its front end in it: words
/// in sound; `embedding`, the class token, and `scores`. Labels are those of
/// NAME.labels.txt or labels.txt beside it, else the published twelve.
void import_kwt(const std::filesystem::path& file, const ImportOptions& options,
                ImageBuilder& builder);

/// Whether a checkpoint is one linear layer and is called a projector: by "kind" in its
/// metadata, else by "proj" in its tensors' or the part's name.
[[nodiscard]] bool is_projector(const Checkpoint& checkpoint, const ImportOptions& options);

/// A linear layer from a space to rows of the backbone that `builder` has already:
/// as many rows an input as its matrix has the backbone's columns.
void import_projector(const EncoderSource& source, const ImportOptions& options,
                      ImageBuilder& builder);

}  // namespace m4::firmware
