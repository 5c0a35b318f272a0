// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>
#include <importers/gguf.hpp>
#include <importers/import.hpp>
#include <importers/rope_table.hpp>
#include <importers/row_order.hpp>
#include <lib/builder.hpp>
#include <lib/error.hpp>
#include <lib/half.hpp>
#include <lib/image.hpp>
#include <lib/tokenizer.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint_writer.hpp"
#include "skip.hpp"
#include "temp_folder.hpp"

using namespace m4::firmware;
using m4::test::GgufWriter;
using m4::test::LlamaCheckpoint;
using m4::test::LlamaShape;
using m4::test::Stored;
using m4::test::TempFolder;

namespace {

/// What an import comes to, copied out of the image.
struct Imported {
    std::vector<std::byte> payload;
    std::vector<Tensor> tensors;  ///< names are empty: see `names`
    std::vector<std::string> names;
    Part part;

    [[nodiscard]] std::size_t index_of(const std::string& name) const {
        for (std::size_t i = 0; i < names.size(); ++i) {
            if (names[i] == name) {
                return i;
            }
        }
        FAIL("no tensor " << name);
        return 0;
    }
    /// Element [row, column], wherever the layout has put it.
    [[nodiscard]] float at(const std::string& name, std::uint64_t row, std::uint64_t column) const {
        const auto& tensor = tensors[index_of(name)];
        if (tensor.dtype == M4_DTYPE_Q8 || tensor.dtype == M4_DTYPE_Q4) {
            return quantized_at(tensor, row, column);
        }
        const std::uint64_t size = tensor.dtype == M4_DTYPE_F16 ? 2 : 4;
        const std::uint64_t columns = tensor.rank == 1 ? tensor.shape[0] : tensor.shape[1];
        std::uint64_t offset = (row * columns + column) * size;
        if (tensor.layout == M4_LAYOUT_ROWS16) {
            const std::uint64_t per_unit = 16 / size;
            const std::uint64_t units = (columns + per_unit - 1) / per_unit;
            const std::uint64_t unit = ((row / 16) * units + column / per_unit) * 16 + row % 16;
            offset = unit * 16 + column % per_unit * size;
        }
        const auto* from = payload.data() + tensor.payload_offset + offset;
        if (size == 2) {
            std::uint16_t bits = 0;
            std::memcpy(&bits, from, sizeof(bits));
            return from_half(bits);
        }
        float value = 0;
        std::memcpy(&value, from, sizeof(value));
        return value;
    }

    /// image.h's description of a tile, taken literally.
    [[nodiscard]] float quantized_at(const Tensor& tensor, std::uint64_t row,
                                     std::uint64_t column) const {
        const bool q8 = tensor.dtype == M4_DTYPE_Q8;
        const std::uint64_t tile_units = q8 ? 34 : 18;
        const std::uint64_t tile = row / 16 * (tensor.shape[1] / 32) + column / 32;
        const auto* units = payload.data() + tensor.payload_offset + tile * tile_units * 16;
        const std::uint64_t r = row % 16;
        const std::uint64_t e = q8 ? column % 16 : column % 32;
        const auto* unit = units + (r + (q8 && column % 32 >= 16 ? 16 : 0)) * 16;
        std::uint32_t word = 0;
        std::memcpy(&word, unit + e % 4 * 4, sizeof(word));
        const int value = q8 ? static_cast<std::int8_t>(word >> (8 * (e / 4)))
                             : static_cast<int>(word >> (4 * (e / 4)) & 15) - 8;
        std::uint16_t scale = 0;
        std::memcpy(&scale, units + (tile_units - 2) * 16 + 2 * r, sizeof(scale));
        return static_cast<float>(value) * from_half(scale);
    }
};

Imported import_from(const std::filesystem::path& from, std::optional<m4_dtype> stored) {
    const TempFolder folder;
    ImageBuilder builder("test", "1", 1);
    import_model({from, stored, "backbone"}, builder);
    builder.write(folder / "image", false);
    const auto mapped = MappedImage::open_folder(folder / "image");
    Imported out;
    out.payload.assign(mapped.payload().begin(), mapped.payload().end());
    out.part = mapped.image().package().parts.at(0);
    for (auto tensor : mapped.image().tensors()) {
        out.names.emplace_back(tensor.name);
        tensor.name = {};
        out.tensors.push_back(tensor);
    }
    return out;
}

std::filesystem::path write_gguf(const TempFolder& folder, const GgufWriter& writer) {
    m4::test::write_file(folder / "model.gguf", writer.bytes());
    return folder / "model.gguf";
}

std::string fault_of(const std::filesystem::path& from) {
    try {
        ImageBuilder builder("test", "1", 1);
        import_model({from, M4_DTYPE_F16, "backbone"}, builder);
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

void check_same(const Imported& a, const Imported& b) {
    CHECK(a.payload == b.payload);
    CHECK(a.names == b.names);
    CHECK(a.part.source_digest == b.part.source_digest);
    CHECK(a.part.parameters == b.part.parameters);
    CHECK(a.part.programs.at(0).ops.size() == b.part.programs.at(0).ops.size());
}

/// Every source of one model, stored as `stored`, gives the same image.
void check_all_sources(const LlamaCheckpoint& model, m4_dtype stored) {
    std::optional<Imported> first;
    for (const auto kept : {Stored::f32, Stored::f16, Stored::bf16}) {
        const TempFolder folder;
        m4::test::write_hf_folder(model, folder / "hf", kept, kept == Stored::f16);
        const auto hf = import_from(folder / "hf", stored);
        const auto gguf =
            import_from(write_gguf(folder, m4::test::llama_gguf(model, kept)), stored);
        check_same(hf, gguf);
        if (first) {
            check_same(*first, hf);
        }
        first = hf;
    }
}

LlamaCheckpoint plain_model() {
    return m4::test::random_llama({}, 1);
}

/// A folder whose config.json has `extra` merged in.
std::string folder_fault(const std::string& extra) {
    const TempFolder folder;
    const auto model = plain_model();
    m4::test::write_hf_folder(model, folder / "hf", Stored::f32);
    m4::test::write_file(folder / "hf/config.json", m4::test::llama_config_json(model, extra));
    return fault_of(folder / "hf");
}

/// The GGUF of the plain model with something more in it.
std::string gguf_fault(const std::function<void(GgufWriter&)>& more) {
    const TempFolder folder;
    auto writer = m4::test::llama_gguf(plain_model(), Stored::f32);
    more(writer);
    return fault_of(write_gguf(folder, writer));
}

/// The plain model after `change`, as a folder.
std::string model_fault(const std::function<void(LlamaCheckpoint&)>& change) {
    const TempFolder folder;
    auto model = plain_model();
    change(model);
    m4::test::write_hf_folder(model, folder / "hf", Stored::f32);
    return fault_of(folder / "hf");
}

}  // namespace

TEST_CASE("llama: folder, shards and GGUF of one model give one image") {
    check_all_sources(plain_model(), M4_DTYPE_F32);
    check_all_sources(plain_model(), M4_DTYPE_F16);
}

TEST_CASE("llama: untied output, biases, no grouping, wide heads") {
    LlamaShape shape;
    shape.tied = false;
    shape.biases = true;
    shape.kv_heads = shape.heads;
    shape.head_dim = 16;  // heads * head_dim is not dim
    check_all_sources(m4::test::random_llama(shape, 2), M4_DTYPE_F16);
}

TEST_CASE("llama: one bit of one weight changes the source digest") {
    const TempFolder folder;
    auto model = plain_model();
    m4::test::write_hf_folder(model, folder / "a", Stored::f32);
    model.tensors.at("model.layers.1.mlp.up_proj.weight").values[17] += 0.125F;
    m4::test::write_hf_folder(model, folder / "b", Stored::f32);
    CHECK(import_from(folder / "a", M4_DTYPE_F16).part.source_digest !=
          import_from(folder / "b", M4_DTYPE_F16).part.source_digest);
}

TEST_CASE("llama: values, layout and row order are what the image says") {
    const TempFolder folder;
    const auto model = plain_model();
    m4::test::write_hf_folder(model, folder / "hf", Stored::f32);
    const auto image = import_from(folder / "hf", M4_DTYPE_F16);
    const std::string q = "model.layers.1.self_attn.q_proj.weight";
    const auto& stored = image.tensors[image.index_of(q)];
    CHECK(stored.layout == M4_LAYOUT_ROWS16);
    CHECK(stored.dtype == M4_DTYPE_F16);
    CHECK(stored.row_order == M4_ROW_ORDER_INTERLEAVED);
    CHECK(stored.head_dim == 8);
    const auto& source = model.tensors.at(q).values;
    for (std::uint64_t row = 0; row < 32; ++row) {
        const std::uint64_t half_split = row / 8 * 8 + row % 8 / 2 + row % 2 * 4;
        for (std::uint64_t column = 0; column < 32; ++column) {
            REQUIRE(image.at(q, row, column) == source[half_split * 32 + column]);
        }
    }
    const std::string down = "model.layers.0.mlp.down_proj.weight";
    CHECK(image.tensors[image.index_of(down)].row_order == M4_ROW_ORDER_NONE);
    for (std::uint64_t row = 0; row < 32; ++row) {
        for (std::uint64_t column = 0; column < 44; ++column) {
            REQUIRE(image.at(down, row, column) ==
                    model.tensors.at(down).values[row * 44 + column]);
        }
    }
    const auto& norm = image.tensors[image.index_of("model.norm.weight")];
    CHECK(norm.dtype == M4_DTYPE_F32);
    CHECK(norm.layout == M4_LAYOUT_PLAIN);

    CHECK(image.part.architecture == "llama");
    CHECK(image.part.context_length == 100);
    CHECK(image.part.vocabulary == 278);
    std::uint64_t parameters = 0;
    for (const auto& [name, tensor] : model.tensors) {
        parameters += tensor.values.size();
    }
    CHECK(image.part.parameters == parameters);
    const auto& program = image.part.programs.at(0);
    CHECK(program.ops.size() == 1 + 2 * 17 + 3);
    CHECK(program.states.size() == 2);
    CHECK(program.ops.back().inputs[1].index == program.ops.front().inputs[0].index);  // tied

    const auto& table = image.tensors[image.index_of("rope_table")];
    CHECK(table.shape[0] == 64 + 2);
    CHECK(table.shape[1] == 8);
    const double frequency = std::pow(10000.0, -2.0 * 1 / 8);
    CHECK(image.at("rope_table", 63, 2) == static_cast<float>(std::cos(63 * frequency)));
    CHECK(image.at("rope_table", 63, 3) == static_cast<float>(std::sin(63 * frequency)));
    CHECK(image.at("rope_table", 64, 3) == 0.0F);
    CHECK(image.at("rope_table", 65, 2) == static_cast<float>(std::cos(64 * frequency)));
}

TEST_CASE("llama: a quantised GGUF is taken as it is, block by block") {
    LlamaShape shape;
    shape.ffn = 64;
    const auto model = m4::test::random_llama(shape, 3);
    for (const auto kept : {Stored::q8_0, Stored::q4_0}) {
        const TempFolder folder;
        const auto path = write_gguf(folder, m4::test::llama_gguf(model, kept));
        const auto image = import_from(path, std::nullopt);
        const GgufFile source(path);
        for (const auto& [name, tensor] : model.tensors) {
            if (tensor.shape.size() != 2) {
                continue;
            }
            CAPTURE(name);
            const auto& stored = image.tensors[image.index_of(name)];
            CHECK(stored.dtype == (kept == Stored::q8_0 ? M4_DTYPE_Q8 : M4_DTYPE_Q4));
            // GGUF has rotated rows interleaved, as the image does.
            std::vector<float> row(tensor.shape[1]);
            for (std::uint64_t r = 0; r < tensor.shape[0]; ++r) {
                source.checkpoint()->find(m4::test::gguf_name(name))->read(r * row.size(), row);
                for (std::uint64_t c = 0; c < row.size(); ++c) {
                    REQUIRE(image.at(name, r, c) == row[c]);
                }
            }
        }
    }
}

TEST_CASE("llama: quantising keeps within half a step, and keeps what was quantised") {
    LlamaShape shape;
    shape.ffn = 44;  // rows of down_proj are not whole blocks
    const auto model = m4::test::random_llama(shape, 4);
    const TempFolder folder;
    m4::test::write_hf_folder(model, folder / "hf", Stored::f32);
    for (const m4_dtype dtype : {M4_DTYPE_Q8, M4_DTYPE_Q4}) {
        const auto image = import_from(folder / "hf", dtype);
        const std::string up = "model.layers.0.mlp.up_proj.weight";
        const auto& values = model.tensors.at(up).values;
        for (std::uint64_t r = 0; r < 44; ++r) {
            float largest = 0;
            for (std::uint64_t c = 0; c < 32; ++c) {
                largest = std::max(largest, std::abs(values[r * 32 + c]));
            }
            // Q4 has no +8: the far end of the other sign may miss by a step.
            const float bound = dtype == M4_DTYPE_Q8 ? largest / 127 * 0.51F : largest / 8 * 1.01F;
            for (std::uint64_t c = 0; c < 32; ++c) {
                REQUIRE(std::abs(image.at(up, r, c) - values[r * 32 + c]) <= bound);
            }
        }
        const auto& down = image.tensors[image.index_of("model.layers.0.mlp.down_proj.weight")];
        CHECK(down.dtype == M4_DTYPE_F16);
        CHECK(image.part.source_digest ==
              import_from(folder / "hf", M4_DTYPE_F16).part.source_digest);
    }
}

TEST_CASE("llama: RoPE scaling, linear and llama3, from either source") {
    RopeSettings linear;
    linear.scaling = RopeSettings::Scaling::linear;
    linear.factor = 4;
    CHECK(rope_frequencies(linear, 8)[1] == doctest::Approx(0.1 / 4));

    RopeSettings llama3;
    llama3.theta = 500000;
    llama3.scaling = RopeSettings::Scaling::llama3;
    llama3.factor = 8;
    llama3.original_context = 8192;
    const auto scaled = rope_frequencies(llama3, 128);
    const auto plain = rope_frequencies({500000.0}, 128);
    CHECK(scaled.front() == plain.front());
    CHECK(scaled.back() == doctest::Approx(plain.back() / 8));
    bool blended = false;
    for (std::size_t i = 0; i < plain.size(); ++i) {
        blended = blended || (scaled[i] < plain[i] * 0.99 && scaled[i] > plain[i] / 7.9);
    }
    CHECK(blended);

    const TempFolder folder;
    const auto model = plain_model();
    m4::test::write_hf_folder(model, folder / "hf", Stored::f32);
    m4::test::write_file(folder / "hf/config.json",
                         m4::test::llama_config_json(model, R"({"rope_scaling":
        {"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
         "original_max_position_embeddings":64}})"));
    llama3 = {10000.0, RopeSettings::Scaling::llama3, 8, 1, 4, 64, {}};
    const auto mine = rope_frequencies(llama3, 8);
    const auto base = rope_frequencies({}, 8);
    std::vector<float> factors;
    for (std::size_t i = 0; i < mine.size(); ++i) {
        factors.push_back(static_cast<float>(base[i] / mine[i]));
    }
    auto writer = m4::test::llama_gguf(model, Stored::f32);
    writer.tensor("rope_freqs.weight", {4}, 0, m4::test::store_values(factors, Stored::f32));
    const auto hf = import_from(folder / "hf", M4_DTYPE_F32);
    const auto gguf = import_from(write_gguf(folder, writer), M4_DTYPE_F32);
    CHECK(hf.part.source_digest == gguf.part.source_digest);
    for (std::uint64_t row = 0; row < 66; ++row) {
        for (std::uint64_t column = 0; column < 8; ++column) {
            CHECK(std::fabs(hf.at("rope_table", row, column) - gguf.at("rope_table", row, column)) <
                  1e-5);
        }
    }
}

TEST_CASE("llama: rows reorder there and back") {
    for (std::uint64_t row = 0; row < 48; ++row) {
        const auto there = source_row(row, 12, M4_ROW_ORDER_INTERLEAVED, M4_ROW_ORDER_HALF_SPLIT);
        CHECK(source_row(there, 12, M4_ROW_ORDER_HALF_SPLIT, M4_ROW_ORDER_INTERLEAVED) == row);
        CHECK(source_row(row, 12, M4_ROW_ORDER_NONE, M4_ROW_ORDER_HALF_SPLIT) == row);
    }
    CHECK(source_row(13, 12, M4_ROW_ORDER_INTERLEAVED, M4_ROW_ORDER_HALF_SPLIT) == 12 + 6);
}

TEST_CASE("llama: unsupported settings are refused by name") {
    CHECK(folder_fault("{}").empty());
    CHECK(contains(folder_fault(R"({"model_type":"gpt2"})"),
                   "architecture 'gpt2' is not supported; supported: llama"));
    CHECK(contains(folder_fault(R"({"architectures":["LlamaForTokenClassification"]})"),
                   "LlamaForTokenClassification"));
    CHECK(contains(folder_fault(R"({"hidden_act":"gelu"})"), "'gelu' is not supported"));
    CHECK(contains(folder_fault(R"({"sliding_window":4096})"), "sliding_window"));
    CHECK(contains(folder_fault(R"({"num_local_experts":8})"), "num_local_experts"));
    CHECK(contains(folder_fault(R"({"partial_rotary_factor":0.5})"), "partial_rotary_factor"));
    CHECK(contains(folder_fault(R"({"quantization_config":{"bits":4}})"), "quantization_config"));
    CHECK(contains(folder_fault(R"({"rope_scaling":{"type":"yarn","factor":2}})"), "'yarn'"));
    CHECK(contains(folder_fault(R"({"rope_scaling":{"type":"linear"}})"), "key 'factor'"));
    CHECK(contains(folder_fault(R"({"num_key_value_heads":3})"), "multiple of 3 KV heads"));
    CHECK(contains(folder_fault(R"({"head_dim":7})"), "is odd"));
    CHECK(contains(folder_fault(R"({"hidden_size":-1})"), "hidden_size"));
    CHECK(contains(folder_fault(R"({"hidden_size":null})"), "'hidden_size': is missing"));
    CHECK(contains(folder_fault(R"({"rms_norm_eps":"x"})"), "rms_norm_eps"));
    CHECK(contains(folder_fault(R"({"vocab_size":4194305})"), "vocabulary"));
    CHECK(contains(folder_fault(R"({"vocab_size":10})"), "pieces for a vocabulary of 10"));

    CHECK(gguf_fault([](GgufWriter&) {}).empty());
    CHECK(contains(gguf_fault([](GgufWriter& w) { w.u32("llama.expert_count", 8); }),
                   "llama.expert_count"));
    CHECK(contains(gguf_fault([](GgufWriter& w) { w.u32("llama.attention.sliding_window", 9); }),
                   "sliding_window"));
    CHECK(contains(gguf_fault([](GgufWriter& w) { w.f32("llama.logit_scale", 2); }),
                   "'llama.logit_scale': is not supported"));
    CHECK(contains(gguf_fault([](GgufWriter& w) { w.string("llama.rope.scaling.type", "yarn"); }),
                   "'yarn'"));
    CHECK(contains(gguf_fault([](GgufWriter& w) { w.u32("llama.vocab_size", 9); }),
                   "llama.vocab_size"));
    const TempFolder folder;
    CHECK(
        contains(fault_of(write_gguf(folder, GgufWriter().string("general.architecture", "gpt2"))),
                 "architecture 'gpt2' is not supported; supported: llama"));
    CHECK(
        contains(fault_of(write_gguf(folder, GgufWriter().string("general.architecture", "llama"))),
                 "'llama.embedding_length': is missing"));
    m4::test::write_file(folder / "text", "hello");
    CHECK(contains(fault_of(folder / "text"), "neither a GGUF file nor"));
    CHECK(contains(fault_of(folder / "absent"), "does not exist"));
    CHECK(contains(fault_of(folder.path()), "has no config.json"));
}

TEST_CASE("llama: missing, extra and misshapen tensors are refused by name") {
    const std::string gate = "model.layers.1.mlp.gate_proj.weight";
    CHECK(model_fault([](LlamaCheckpoint&) {}).empty());
    CHECK(contains(model_fault([&](auto& m) { m.tensors.erase(gate); }),
                   "'" + gate + "': is missing; its shape would be [44, 32]"));
    CHECK(contains(model_fault([&](auto& m) {
                       m.tensors[gate].shape = {32, 44};
                   }),
                   "'" + gate + "': has shape [32, 44] instead of [44, 32]"));
    CHECK(contains(model_fault([](auto& m) {
                       m.tensors["model.extra"] = {{1}, {0}};
                   }),
                   "'model.extra': is no part"));
    CHECK(contains(model_fault([](auto& m) {
                       m.tensors["lm_head.weight"] = m.tensors["model.embed_tokens.weight"];
                       m.tensors["lm_head.weight"].values[3] += 1;
                   }),
                   "differs from the embedding"));
    // A true copy of a tied output and buffers of older files are no harm.
    CHECK(model_fault([](auto& m) {
              m.tensors["lm_head.weight"] = m.tensors["model.embed_tokens.weight"];
              m.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{4}, {1, 1, 1, 1}};
          }).empty());
    CHECK(contains(gguf_fault([](GgufWriter& w) { w.tensor("x", {1}, 0, "abcd"); }), "'x'"));
    CHECK(contains(gguf_fault([](GgufWriter& w) {
                       w.tensor("output.weight", {278, 32}, 3, std::string(278 * 20, 0));
                   }),
                   "'output.weight': has type Q4_1; this version imports F32, F16"));
}

TEST_CASE("llama: a folder without its tokeniser says which file is wanted") {
    const TempFolder folder;
    m4::test::write_hf_folder(plain_model(), folder / "hf", Stored::f32);
    std::filesystem::remove(folder / "hf/tokenizer.model");
    CHECK(contains(fault_of(folder / "hf"), "has no tokenizer.model"));
}

TEST_CASE("llama: a finite weight beyond F16 is refused when stored as F16, kept as F32") {
    const TempFolder folder;
    auto model = plain_model();
    model.tensors.at("model.layers.0.mlp.up_proj.weight").values[5] = 1e6F;
    m4::test::write_hf_folder(model, folder / "hf", Stored::f32);
    CHECK_THROWS_WITH_AS((void)import_from(folder / "hf", M4_DTYPE_F16),
                         doctest::Contains("model.layers.0.mlp.up_proj.weight"), Error);
    CHECK(import_from(folder / "hf", M4_DTYPE_F32).at("model.layers.0.mlp.up_proj.weight", 0, 5) ==
          1e6F);
}

TEST_CASE("llama: the tokeniser section covers the padded vocabulary") {
    const TempFolder folder;
    m4::test::write_hf_folder(plain_model(), folder / "hf", Stored::f32);
    const auto image = import_from(folder / "hf", M4_DTYPE_F16);
    const auto& tensor = image.tensors.at(image.part.tokenizer_tensor);
    CHECK(tensor.dtype == M4_DTYPE_U8);
    // Aligned as the image has it: the payload itself is page-aligned there.
    std::vector<std::uint64_t> aligned(tensor.size_bytes / 8 + 1);
    std::memcpy(aligned.data(), image.payload.data() + tensor.payload_offset, tensor.size_bytes);
    const Tokenizer tokenizer(std::as_bytes(std::span(aligned)).first(tensor.size_bytes), "image");
    CHECK(tokenizer.vocabulary() == image.part.vocabulary);
    CHECK(tokenizer.decode(tokenizer.encode("the thing", true)) == "the thing");
    CHECK(tokenizer.piece(277, false).empty());
}

TEST_CASE("llama: damaged metadata of a GGUF is imported or refused, never worse") {
    const TempFolder folder;
    LlamaShape shape;
    shape.layers = 1;
    const auto model = m4::test::random_llama(shape, 4);
    const auto bytes = m4::test::llama_gguf(model, Stored::f16).bytes();
    const auto metadata = bytes.find("tokenizer.ggml.model");
    std::size_t refused = 0;
    for (std::size_t bit = 0; bit < metadata * 8; ++bit) {
        auto flipped = bytes;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
        m4::test::write_file(folder / "flipped.gguf", flipped);
        refused += fault_of(folder / "flipped.gguf").empty() ? 0 : 1;
    }
    CHECK(refused > metadata);
}

TEST_CASE("llama: stories260K has one digest and one image in all its files") {
    const auto data = m4::test::shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data");
    }
    const auto hf = import_from(data + "/stories260K/hf", M4_DTYPE_F16);
    CHECK(hf.part.parameters == 260032);
    check_same(hf, import_from(data + "/stories260K/stories260K.f32.gguf", M4_DTYPE_F16));
    check_same(hf, import_from(data + "/stories260K/stories260K.f16.gguf", M4_DTYPE_F16));
}
