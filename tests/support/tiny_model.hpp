// SPDX-License-Identifier: MIT
#pragma once

#include <m4/image.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace m4::firmware {
class ImageBuilder;
}

/// A random LLaMA-like model, small enough for any test, as an image and as
/// the plain numbers to compute a reference from.
namespace m4::test {

struct TinyDims {
    std::uint32_t vocabulary = 300;  ///< from 259 on, the tokeniser has byte pieces
    std::uint32_t hidden = 64;
    std::uint32_t layers = 2;
    std::uint32_t heads = 4;
    std::uint32_t kv_heads = 2;  ///< heads is a multiple
    std::uint32_t head_dim = 16;
    std::uint32_t rotated = 16;  ///< dimensions of a head under RoPE: even, at most head_dim
    std::uint32_t feed_forward = 96;
    std::uint32_t context = 128;
    std::uint32_t fine_rows = 16;    ///< of the RoPE table: a power of two
    bool tied = false;               ///< output matrix = embedding
    bool query_bias = false;         ///< q, k, v have biases
    m4_dtype stored = M4_DTYPE_F32;  ///< of the matrices; quantised: columns of whole blocks
    double rope_base = 10'000.0;
    double eps = 1e-5;
};

/// Matrices are row-major [outputs, inputs]. Rows of wq and wk (and elements of
/// bq and bk) are in interleaved order: rows 2i and 2i+1 of a head are a pair.
struct TinyLayer {
    std::vector<float> attention_norm;
    std::vector<float> wq, wk, wv, wo;
    std::vector<float> bq, bk, bv;  ///< empty without query_bias
    std::vector<float> feed_forward_norm;
    std::vector<float> gate, up, down;
};

/// The numbers as the image stores them: already rounded to `stored`.
struct TinyModel {
    TinyDims dims;
    std::vector<float> embedding;  ///< [vocabulary, hidden]
    std::vector<TinyLayer> layers;
    std::vector<float> final_norm;
    std::vector<float> output;      ///< [vocabulary, hidden]; the embedding where tied
    std::vector<float> rope_table;  ///< docs/programs.md; [fine + coarse, rotated]
};

/// The same dims and seed give the same model everywhere.
[[nodiscard]] TinyModel make_tiny_model(const TinyDims& dims, std::uint64_t seed);

/// Tensors, a tokeniser section and the package with its program "forward".
/// `model` must outlive the builder's write().
void build_tiny_model(const TinyModel& model, firmware::ImageBuilder& builder);

/// Writes an image folder. Small shards by default, so that there are several
/// as soon as there are 2 MiB.
void write_tiny_model(const TinyModel& model, const std::filesystem::path& folder,
                      const std::string& name = "tiny",
                      std::uint64_t segment_bytes = M4_IMAGE_CHUNK_BYTES);

/// Logits of every position of one sequence, [tokens, vocabulary], computed in
/// double in the plainest way.
[[nodiscard]] std::vector<double> reference_logits(const TinyModel& model,
                                                   std::span<const std::uint32_t> tokens);

}  // namespace m4::test
