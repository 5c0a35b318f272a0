// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <importers/tokenizer_section.hpp>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Writers of checkpoint files for tests: what the importers read, from the
/// other side, and able to write what is wrong.
namespace m4::test {

/// Little-endian bytes, appended.
class Bytes {
   public:
    template <typename T>
    Bytes& number(T value) {
        const auto* from = reinterpret_cast<const char*>(&value);
        data.append(from, sizeof(value));
        return *this;
    }
    /// Length (u64), then the text: GGUF's string.
    Bytes& text(std::string_view value) {
        number<std::uint64_t>(value.size());
        data += value;
        return *this;
    }
    std::string data;
};

void write_file(const std::filesystem::path& path, std::string_view bytes);

/// How tensor elements are stored, with the code GGUF has for it.
enum class Stored : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, bf16 = 30 };

/// Values in `stored` form; rounds to nearest for F16, truncates for BF16, and
/// gives blocks of 32 any scale that holds them.
[[nodiscard]] std::string store_values(const std::vector<float>& values, Stored stored);

/// GGUF's name of a tensor that Hugging Face calls `name`.
[[nodiscard]] std::string gguf_name(std::string name);

/// A GGUF file, version 3, in memory.
class GgufWriter {
   public:
    GgufWriter& string(std::string_view key, std::string_view value);
    GgufWriter& u32(std::string_view key, std::uint32_t value);
    GgufWriter& f32(std::string_view key, float value);
    GgufWriter& boolean(std::string_view key, bool value);
    GgufWriter& strings(std::string_view key, const std::vector<std::string>& values);
    GgufWriter& floats(std::string_view key, const std::vector<float>& values);
    GgufWriter& i32s(std::string_view key, const std::vector<std::int32_t>& values);
    /// `shape` outermost first; the data follows in order of the calls.
    GgufWriter& tensor(std::string_view name, const std::vector<std::uint64_t>& shape,
                       std::uint32_t type, std::string data);
    [[nodiscard]] std::string bytes() const;

   private:
    std::uint64_t key_count_ = 0;
    std::uint64_t tensor_count_ = 0;
    Bytes keys_;
    Bytes infos_;
    std::string data_;
};

/// One tensor of a safetensors file.
struct SafeTensor {
    std::string dtype;
    std::vector<std::uint64_t> shape;
    std::string data;
};
[[nodiscard]] std::string safetensors_bytes(const std::map<std::string, SafeTensor>& tensors);

/// A random LIMU-BERT of 24 dimensions, by its tensors' names.
[[nodiscard]] std::map<std::string, SafeTensor> random_limu();

struct LlamaShape {
    std::uint32_t dim = 32;
    std::uint32_t layers = 2;
    std::uint32_t heads = 4;
    std::uint32_t kv_heads = 2;
    std::uint32_t head_dim = 8;
    std::uint32_t ffn = 44;
    std::uint32_t context = 100;
    bool tied = true;
    bool biases = false;
};

/// A random LLaMA under Hugging Face names, rotated rows half-split. Its values
/// are exact in F16 and BF16, so that every file holds the same model.
struct LlamaCheckpoint {
    struct Tensor {
        std::vector<std::uint64_t> shape;
        std::vector<float> values;
    };
    LlamaShape shape;
    std::map<std::string, Tensor> tensors;
    firmware::TokenizerSource tokenizer;
};
[[nodiscard]] LlamaCheckpoint random_llama(const LlamaShape& shape, std::uint32_t seed);

/// A tokeniser with byte pieces, letters and a few merges.
[[nodiscard]] firmware::TokenizerSource tiny_tokenizer();
/// A serialised SentencePiece model (BPE) that says the same.
[[nodiscard]] std::string sentencepiece_model(const firmware::TokenizerSource& source);

/// config.json as text; `extra` is put in as it is ("\"a\": 1,").
[[nodiscard]] std::string llama_config_json(const LlamaCheckpoint& model,
                                            const std::string& extra = {});
/// config.json, tokenizer.model and the weights: one file, or several shards
/// with an index.
void write_hf_folder(const LlamaCheckpoint& model, const std::filesystem::path& folder,
                     Stored stored, bool sharded = false);
/// The GGUF of the model; matrices as `stored`, vectors F32, rotated rows
/// interleaved. Further keys and tensors can be added before bytes().
[[nodiscard]] GgufWriter llama_gguf(const LlamaCheckpoint& model, Stored stored);

}  // namespace m4::test
