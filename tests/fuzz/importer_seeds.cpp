// SPDX-License-Identifier: MIT
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "checkpoint_writer.hpp"
#include "importer_target.hpp"
#include "kwt_writer.hpp"
#include "small_encoders.hpp"

namespace m4::fuzz {

namespace {

/// Byte `value` as CLIP's files write it.
std::string byte_name(int value, int& others) {
    const bool seen = (value > 32 && value < 127) || (value > 160 && value != 173);
    const int code = seen ? value : 256 + others++;
    return code < 128 ? std::string(1, static_cast<char>(code))
                      : std::string{static_cast<char>(0xc0 + code / 64),
                                    static_cast<char>(0x80 + code % 64)};
}

std::string tokenizer_json() {
    nlohmann::json vocabulary;
    for (const char* end : {"", "</w>"}) {
        int others = 0;
        for (int value = 0; value < 256; ++value) {
            vocabulary[byte_name(value, others) + end] = vocabulary.size();
        }
    }
    for (const char* token : {"ab", "abc</w>", "<|startoftext|>", "<|endoftext|>"}) {
        vocabulary[token] = vocabulary.size();
    }
    const nlohmann::json all = {{"normalizer", {{"type", "Lowercase"}}},
                                {"pre_tokenizer", {{"type", "ByteLevel"}}},
                                {"added_tokens", {{{"id", 517}, {"content", "<|more|>"}}}},
                                {"model",
                                 {{"type", "BPE"},
                                  {"end_of_word_suffix", "</w>"},
                                  {"vocab", vocabulary},
                                  {"merges", {"a b", {"ab", "c</w>"}}}}}};
    return all.dump();
}

std::string tflite() {
    test::KwtSizes sizes;
    sizes.samples = 60;
    sizes.shift = 4;
    sizes.bins = 8;
    sizes.mel_bins = 4;
    sizes.coefficients = 3;
    sizes.width = 4;
    sizes.inner = 6;
    sizes.blocks = 1;
    return test::kwt_tflite(sizes, test::random_kwt(sizes, 2));
}

std::string gguf() {
    const test::LlamaShape shape = {
        .dim = 8, .layers = 1, .heads = 2, .kv_heads = 1, .head_dim = 4, .ffn = 8};
    return test::llama_gguf(test::random_llama(shape, 1), test::Stored::f16).bytes();
}

std::string factor(float value) {
    return test::store_values(std::vector<float>(8, value), test::Stored::f32);
}

/// As safetensors_bytes() writes it, with metadata before the tensors.
std::string head() {
    const std::string bytes = test::safetensors_bytes(
        {{"weight", {"F32", {2, 4}, factor(1)}}, {"mean", {"F32", {4}, factor(1).substr(16)}}});
    std::uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof(size));
    auto header = nlohmann::json::parse(bytes.substr(sizeof(size), size));
    header["__metadata__"] = {
        {"kind", "head"}, {"input", "embedding"}, {"labels", R"(["a", "b"])"}};
    return test::Bytes().text(header.dump()).data + bytes.substr(sizeof(size) + size);
}

std::string lora_gguf() {
    test::GgufWriter writer;
    writer.string("general.architecture", "llama").string("general.type", "adapter");
    writer.string("adapter.type", "lora").f32("adapter.lora.alpha", 4);
    writer.tensor("blk.0.attn_q.weight.lora_a", {2, 4}, 0, factor(1));
    writer.tensor("blk.0.attn_q.weight.lora_b", {4, 2}, 0, factor(2));
    return writer.bytes();
}

}  // namespace

std::string peft_config() {
    return R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
 "layers_to_transform": [0], "layers_pattern": "layers", "alpha_pattern": {"q_.roj": 3},
 "rank_pattern": {"^x": 1}, "exclude_modules": "y+", "use_rslora": true, "bias": "none"})";
}

std::string peft_weights() {
    const std::string module = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
    return test::safetensors_bytes({{module + "A.weight", {"F32", {2, 4}, factor(1)}},
                                    {module + "B.weight", {"F32", {4, 2}, factor(2)}}});
}

std::vector<std::vector<std::uint8_t>> importer_seeds() {
    const std::vector<std::pair<std::uint8_t, std::string>> files = {
        {0, test::safetensors_bytes(test::small_vit())},
        {0, test::safetensors_bytes(test::small_vit("deit."))},
        {0, test::safetensors_bytes(test::small_clip())},
        {1, gguf()},
        {2, tflite()},
        {3, "#version: 0.2\na b\nab c</w>\nt h\nth e</w>\n! !\n!! !!\n"},
        {4, tokenizer_json()},
        {5, R"({"model_type": "vit", "architectures": ["ViTForImageClassification"],
 "hidden_act": "gelu", "num_attention_heads": 2, "layer_norm_eps": 1e-12,
 "id2label": {"0": "cat", "1": "dog"}})"},
        {6, R"({"do_resize": true, "size": {"height": 8, "width": 8}, "resample": 2,
 "do_center_crop": true, "crop_size": 6, "do_rescale": true, "rescale_factor": 0.00392156862745098,
 "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})"},
        {7, "#version: 0.2\na b\n"},
        {8, R"({"decoder_start_token_id": 30, "eos_token_id": 29, "lang_to_id": {"<|en|>": 31,
 "<|de|>": 32}, "task_to_id": {"translate": 33, "transcribe": 34}, "no_timestamps_token_id": 35,
 "max_initial_timestamp_index": 5, "suppress_tokens": [1, 2], "begin_suppress_tokens": [3]})"},
        {9, R"({"A": 0, "B": 1, "\u0120the": 2, "\u00c3\u00a9": 3, "<|en|>": 31})"},
        {10, R"({"model": {"type": "BPE", "vocab": {"A": 0, "\u0120b": 1, "\u010a": 2}},
 "added_tokens": [{"id": 31, "content": "<|en|>"}, {"id": 4, "content": "more"}]})"},
        {11, test::whisper_config(whisper_dims())},
        {12, peft_config()},
        {13, peft_weights()},
        {14, lora_gguf()},
        {15, head()},
    };
    std::vector<std::vector<std::uint8_t>> seeds;
    for (const auto& [kind, file] : files) {
        seeds.emplace_back(1, kind);
        seeds.back().insert(seeds.back().end(), file.begin(), file.end());
    }
    return seeds;
}

}  // namespace m4::fuzz
