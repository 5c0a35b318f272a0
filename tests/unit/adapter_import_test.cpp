// SPDX-License-Identifier: MIT
// Adapters of other programs: what they come to, and what is refused by its name.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "adapter_import_samples.hpp"
#include "skip.hpp"

namespace m4::firmware {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Bases;
using test::bases;
using test::contains;
using test::GgufWriter;
using test::PeftFolder;
using test::refusal;
using test::SafeTensor;
using test::store_values;
using test::Stored;
using test::TempFolder;

/// scale * b * a, rows as a half-split file has them.
std::vector<double> delta(const LowRankPair& pair, std::uint32_t head_dim) {
    const auto at = [&](std::span<const std::byte> bytes, std::uint64_t index) -> double {
        if (pair.dtype == M4_DTYPE_F16) {
            std::uint16_t half = 0;
            std::memcpy(&half, bytes.data() + index * 2, 2);
            return from_half(half);
        }
        float value = 0;
        std::memcpy(&value, bytes.data() + index * 4, 4);
        return value;
    };
    std::vector<double> out(std::uint64_t{pair.rows} * pair.columns);
    for (std::uint64_t row = 0; row < pair.rows; ++row) {
        const bool turned = pair.order == M4_ROW_ORDER_INTERLEAVED && head_dim != 0;
        const std::uint64_t in = turned ? row % head_dim : 0;
        const std::uint64_t to = turned ? row - in + in / 2 + in % 2 * (head_dim / 2) : row;
        for (std::uint64_t column = 0; column < pair.columns; ++column) {
            double sum = 0;
            for (std::uint64_t k = 0; k < pair.rank; ++k) {
                sum += at(pair.b, row * pair.rank + k) * at(pair.a, k * pair.columns + column);
            }
            out[to * pair.columns + column] = sum * pair.scale;
        }
    }
    return out;
}

const LowRankPair& pair_of(const Adapter& adapter, const std::string& tensor) {
    for (const LowRankPair& pair : adapter.pairs) {
        if (pair.tensor == tensor) {
            return pair;
        }
    }
    FAIL("no pair " << tensor);
    return adapter.pairs.front();
}

/// The same adapter as llama.cpp's converter writes it: q and k interleaved.
GgufWriter gguf_of(const PeftFolder& peft, float alpha, std::uint32_t head_dim) {
    GgufWriter out;
    out.string("general.architecture", "llama").string("general.type", "adapter");
    out.string("adapter.type", "lora").f32("adapter.lora.alpha", alpha);
    for (const auto& [name, tensor] : peft.tensors) {
        const bool is_a = contains(name, ".lora_A.");
        std::string module = name.substr(std::strlen("base_model.model."));
        module = module.substr(0, module.find(".lora_"));
        const std::uint64_t row_bytes = tensor.data.size() / tensor.shape[0];
        std::string data = tensor.data;
        if (!is_a && module.ends_with("q_proj")) {
            for (std::uint64_t row = 0; row < tensor.shape[0]; ++row) {
                const std::uint64_t in = row % head_dim;
                const std::uint64_t from = row - in + in / 2 + in % 2 * (head_dim / 2);
                data.replace(row * row_bytes, row_bytes, tensor.data, from * row_bytes, row_bytes);
            }
        }
        out.tensor(test::gguf_name(module + ".weight") + (is_a ? ".lora_a" : ".lora_b"),
                   tensor.shape, 0, data);
    }
    return out;
}

}  // namespace

TEST_CASE("adapter import: PEFT's folder, unbound and bound to every form of its base") {
    const PeftFolder peft;
    const AdapterImport unbound = peft.import();
    const Adapter& adapter = unbound.draft.adapter;
    CHECK(adapter.name == "my-adapter");
    CHECK(adapter.task == "CAUSAL_LM");
    CHECK(adapter.base_name == "some/llama");
    CHECK(adapter.source == "peft");
    CHECK(!is_bound(adapter));
    CHECK(!unbound.match);
    REQUIRE(adapter.pairs.size() == 4);
    const auto& pair = pair_of(adapter, "model.layers.1.self_attn.v_proj.weight");
    CHECK(pair.rank == 4);
    CHECK(pair.rows == 16);
    CHECK(pair.columns == 32);
    CHECK(pair.scale == 2.0F);
    CHECK(pair.dtype == M4_DTYPE_F32);
    CHECK(pair.order == M4_ROW_ORDER_HALF_SPLIT);
    const auto file = encode_adapter(adapter);
    CHECK(read_adapter(file).pairs.size() == 4);

    std::optional<Digest> base;
    for (const fs::path& from :
         {bases().hf, bases().gguf, bases().image(bases().hf, M4_DTYPE_F32),
          bases().image(bases().gguf, M4_DTYPE_Q8), bases().image(bases().gguf, M4_DTYPE_F16)}) {
        CAPTURE(from.string());
        const AdapterImport bound = peft.import(from);
        REQUIRE(bound.match.has_value());
        CHECK(bound.match->complete());
        CHECK(bound.match->matched == 4);
        CHECK(bound.part == "backbone");
        CHECK(bound.base_bytes > 10'000);
        CHECK(bound.draft.adapter.architecture == "llama");
        CHECK(is_bound(bound.draft.adapter));
        CHECK(is_set(bound.draft.adapter.probed) == fs::exists(from / "manifest.m4m"));
        CHECK(base.value_or(bound.draft.adapter.base) == bound.draft.adapter.base);
        base = bound.draft.adapter.base;
    }
}

TEST_CASE("adapter import: types stay, become F32, or what is asked for") {
    PeftFolder peft;
    peft.tensors.clear();
    peft.config["target_modules"] = {"q_proj", "k_proj", "v_proj"};
    peft.add(PeftFolder::attention(0, "q_proj"), 32, 32, 4, Stored::f16);
    peft.add(PeftFolder::attention(0, "k_proj"), 16, 32, 4, Stored::bf16);
    peft.add(PeftFolder::attention(0, "v_proj"), 16, 32, 4);
    const auto types = [](const AdapterImport& import) {
        std::vector<m4_dtype> out;
        for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
            out.push_back(
                pair_of(import.draft.adapter, PeftFolder::attention(0, name) + ".weight").dtype);
        }
        return out;
    };
    CHECK(types(peft.import()) == std::vector{M4_DTYPE_F16, M4_DTYPE_F32, M4_DTYPE_F32});
    CHECK(types(peft.import({}, M4_DTYPE_F16)) ==
          std::vector{M4_DTYPE_F16, M4_DTYPE_F16, M4_DTYPE_F16});
    CHECK(types(peft.import({}, M4_DTYPE_F32)) ==
          std::vector{M4_DTYPE_F32, M4_DTYPE_F32, M4_DTYPE_F32});
    const auto big = store_values(std::vector<float>(128, 1e6F), Stored::f32);
    peft.tensors["base_model.model." + PeftFolder::attention(0, "v_proj") + ".lora_A.weight"].data =
        big;
    CHECK(contains(refusal([&] { (void)peft.import({}, M4_DTYPE_F16); }), "beyond F16"));
    CHECK(refusal([&] { (void)peft.import(); }) == "accepted");
}

TEST_CASE("adapter import: scales, patterns and which modules are meant") {
    PeftFolder peft;
    const std::string q = PeftFolder::attention(0, "q_proj") + ".weight";
    peft.config["use_rslora"] = true;
    CHECK(pair_of(peft.import().draft.adapter, q).scale == 4.0F);
    peft.config["use_rslora"] = false;
    peft.config["alpha_pattern"] = {{"layers.0.self_attn.q_proj", 2}};
    CHECK(pair_of(peft.import().draft.adapter, q).scale == 0.5F);
    peft.config["alpha_pattern"] = {{"q_proj", 2}, {"layers\\.0\\..*", 4}};
    CHECK(contains(peft.refused(), "both match 'model.layers.0.self_attn.q_proj'"));
    peft.config.erase("alpha_pattern");
    peft.config["rank_pattern"] = {{"^model.layers.1.self_attn.q_proj", 8}};
    CHECK(contains(peft.refused(), "says rank 8"));
    peft.add(PeftFolder::attention(1, "q_proj"), 32, 32, 8);
    CHECK(pair_of(peft.import().draft.adapter, PeftFolder::attention(1, "q_proj") + ".weight")
              .scale == 1.0F);
    for (const char* pattern : {"all-linear", ".*\\.(q|v)_proj", "model\\.layers\\.\\d+\\..*"}) {
        peft.config["target_modules"] = pattern;
        CHECK(peft.refused() == "accepted");
    }
    peft.config["target_modules"] = "model.layers.0.*";
    CHECK(contains(peft.refused(), "target_modules does not name it"));
    peft.config["target_modules"] = "(";
    CHECK(contains(peft.refused(), "key 'target_modules': '(' is no pattern"));
    peft.config["target_modules"] = "((a{0,40}){0,40}){0,25}b";
    CHECK(contains(peft.refused(), "1024 bytes or repetitions"));
    peft.config["target_modules"] = ".*\\.\\d{1,2}\\..*";
    CHECK(peft.refused() == "accepted");
    peft.config["target_modules"] = "(a+)+(b*)*\\.(x|x)*$";
    CHECK(contains(peft.refused(), "target_modules does not name it"));
    peft.config["target_modules"] = {"q_proj", "v_proj"};
    peft.config["exclude_modules"] = {"layers.0.self_attn.v_proj"};
    CHECK(contains(peft.refused(), "exclude_modules names it"));
    peft.config.erase("exclude_modules");
    peft.config["layers_to_transform"] = {0, 1};
    CHECK(peft.refused() == "accepted");
    peft.config["layers_pattern"] = "layers";
    CHECK(peft.refused() == "accepted");
    peft.config["layers_pattern"] = "h";
    CHECK(contains(peft.refused(), "layers_to_transform does not name its layer"));
    peft.config.erase("layers_pattern");
    peft.config["layers_to_transform"] = {0, 1, 7};
    CHECK(contains(peft.refused(), "'layers_to_transform': names 7"));
    peft.config["layers_to_transform"] = 0;
    CHECK(contains(peft.refused(), "layers_to_transform does not name its layer"));
}

TEST_CASE("adapter import: settings that are not supported are refused by name") {
    struct Case {
        const char* key;
        json value;
    };
    const std::vector<Case> cases = {{"peft_type", "VERA"},
                                     {"peft_type", "IA3"},
                                     {"peft_type", nullptr},
                                     {"use_dora", true},
                                     {"bias", "all"},
                                     {"bias", "lora_only"},
                                     {"lora_bias", true},
                                     {"loftq_config", {{"loftq_bits", 4}}},
                                     {"use_qalora", true},
                                     {"megatron_config", {{"x", 1}}},
                                     {"layer_replication", {{0, 4}}},
                                     {"trainable_token_indices", {1, 2}},
                                     {"init_lora_weights", "pissa"},
                                     {"init_lora_weights", "olora"},
                                     {"arrow_config", {{"top_k", 3}}},
                                     {"corda_config", {{"x", 1}}},
                                     {"target_parameters", {"w"}},
                                     {"alora_invocation_tokens", {1}},
                                     {"a_setting_of_tomorrow", 1},
                                     {"r", 0},
                                     {"r", 257},
                                     {"r", 2.5},
                                     {"r", nullptr},
                                     {"lora_alpha", "x"},
                                     {"target_modules", nullptr},
                                     {"target_modules", {1}},
                                     {"modules_to_save", {"lm_head"}}};
    for (const Case& one : cases) {
        PeftFolder peft;
        peft.config[one.key] = one.value;
        const std::string text = peft.refused();
        CAPTURE(one.value.dump());
        CAPTURE(text);
        CHECK(contains(text, "adapter_config.json: key '" + std::string(one.key) + "'"));
    }
    PeftFolder peft;
    peft.config["init_lora_weights"] = "gaussian";
    peft.config["fan_in_fan_out"] = true;
    peft.config["megatron_core"] = "megatron.core";
    peft.config["qalora_group_size"] = 16;
    CHECK(peft.refused() == "accepted");
}

TEST_CASE("adapter import: every tensor of a PEFT folder is understood, or named") {
    struct Case {
        void (*change)(PeftFolder&);
        const char* expected;
    };
    static const std::string kQ = "base_model.model.model.layers.0.self_attn.q_proj";
    static constexpr Case kCases[] = {
        {[](PeftFolder& p) { p.put("model.norm.weight", {32}); },
         "tensor 'base_model.model.model.norm.weight': is neither a factor nor"},
        {[](PeftFolder& p) { p.tensors["x"] = p.tensors.begin()->second; },
         "'x': does not begin with"},
        {[](PeftFolder& p) { p.tensors.erase(kQ + ".lora_A.weight"); }, "has no lora_A beside it"},
        {[](PeftFolder& p) { p.tensors.erase(kQ + ".lora_B.weight"); }, "has no lora_B beside it"},
        {[](PeftFolder& p) {
             p.put("model.embed_tokens.lora_embedding_A", {4, 32});
         },
         "changes an embedding"},
        {[](PeftFolder& p) {
             p.put("model.layers.0.self_attn.q_proj.lora_magnitude_vector", {32});
         },
         "is DoRA's"},
        {[](PeftFolder& p) { p.put("model.layers.0.self_attn.q_proj.lora_B.bias", {32}); },
         "is no factor of a linear layer"},
        {[](PeftFolder& p) { p.add("model.layers.0.mlp.up_proj", 44, 32, 4); },
         "target_modules does not name it"},
        {[](PeftFolder& p) {
             p.config["target_modules"] = {"q_proj", "v_proj", "o_proj"};
         },
         "names 'o_proj', of which the file has no tensors"},
        {[](PeftFolder& p) { p.config["r"] = 8; }, "says rank 8"},
        {[](PeftFolder& p) {
             p.put("model.layers.0.self_attn.q_proj.lora_B.weight", {32, 5});
         },
         "is of another rank"},
        {[](PeftFolder& p) {
             p.put("model.layers.0.self_attn.q_proj.lora_A.default.weight", {4, 32});
         },
         "is a second factor"},
        {[](PeftFolder& p) {
             p.config["modules_to_save"] = {"lm_head"};
             p.put("lm_head.weight", {520, 32});
         },
         "module 'lm_head': was saved whole, and what it is needs the base"},
    };
    for (const Case& one : kCases) {
        PeftFolder peft;
        one.change(peft);
        const std::string text = peft.refused();
        CAPTURE(text);
        CHECK(contains(text, one.expected));
    }
    PeftFolder head;
    head.config["modules_to_save"] = {"lm_head"};
    head.put("lm_head.weight", {520, 32});
    CHECK(contains(head.refused(bases().hf), "part backbone is no encoder"));
    // Names that PEFT gave while it had several adapters.
    PeftFolder peft;
    std::map<std::string, SafeTensor> renamed;
    for (auto& [name, tensor] : peft.tensors) {
        renamed[name.substr(0, name.size() - 6) + "default.weight"] = tensor;
    }
    peft.tensors = renamed;
    CHECK(peft.refused() == "accepted");
}

TEST_CASE("adapter import: what was pickled is refused with advice, and so is half a folder") {
    const PeftFolder peft;
    peft.write();
    AdapterImportOptions options;
    options.from = peft.path();
    fs::rename(peft.path() / "adapter_model.safetensors", peft.path() / "adapter_model.bin");
    CHECK(contains(refusal([&] { (void)import_adapter(options); }), "safe_serialization=True"));
    fs::remove(peft.path() / "adapter_model.bin");
    CHECK(contains(refusal([&] { (void)import_adapter(options); }),
                   "has no adapter_model.safetensors"));
    fs::remove(peft.path() / "adapter_config.json");
    CHECK(contains(refusal([&] { (void)import_adapter(options); }), "adapter_config.json"));
    options.from = peft.temp / "nothing";
    CHECK(contains(refusal([&] { (void)import_adapter(options); }), "does not exist"));
    options.from = peft.path();
    options.part = "backbone";
    CHECK(contains(refusal([&] { (void)import_adapter(options); }), "is one of a base"));
}

TEST_CASE("adapter import: one that changes nothing, or fits nothing, is refused") {
    PeftFolder peft;
    for (auto& [name, tensor] : peft.tensors) {
        if (contains(name, "lora_B")) {
            std::fill(tensor.data.begin(), tensor.data.end(), '\0');
        }
    }
    CHECK(contains(peft.refused(), "changes nothing: scale * b * a is zero in all 4 pairs"));
    CHECK(contains(peft.refused(bases().hf), "changes nothing: scale * b * a is zero"));

    PeftFolder other;
    other.add(PeftFolder::attention(7, "q_proj"), 32, 32, 4);
    CHECK(contains(other.refused(bases().hf),
                   "4 of 5 pairs match part backbone; pair "
                   "'model.layers.7.self_attn.q_proj.weight': no such tensor"));
    PeftFolder wide;
    wide.add(PeftFolder::attention(0, "q_proj"), 64, 32, 4);
    CHECK(contains(wide.refused(bases().gguf),
                   "the pair is for shape [64, 32], the tensor's is [32, 32]"));
}

TEST_CASE("adapter import: a GGUF adapter gives the same deltas as PEFT's") {
    const PeftFolder peft;
    const AdapterImport one = peft.import(bases().hf);
    const TempFolder temp;
    const std::uint32_t head_dim = bases().model.shape.head_dim;
    test::write_file(temp / "x.gguf", gguf_of(peft, 8, head_dim).bytes());
    AdapterImportOptions options;
    options.from = temp / "x.gguf";
    options.base = bases().gguf;
    const AdapterImport two = import_adapter(options);
    CHECK(two.draft.adapter.name == "x");
    CHECK(two.draft.adapter.base == one.draft.adapter.base);
    REQUIRE(two.draft.adapter.pairs.size() == 4);
    for (const LowRankPair& pair : one.draft.adapter.pairs) {
        const LowRankPair& other = pair_of(two.draft.adapter, pair.tensor);
        CHECK(other.order == M4_ROW_ORDER_INTERLEAVED);
        const bool turned = contains(pair.tensor, "q_proj");
        CHECK(delta(pair, turned ? head_dim : 0) == delta(other, turned ? head_dim : 0));
    }
    const auto refused = [&](const GgufWriter& writer) {
        test::write_file(temp / "bad.gguf", writer.bytes());
        options.from = temp / "bad.gguf";
        return refusal([&] { (void)import_adapter(options); });
    };
    const std::string factor = store_values(std::vector<float>(128, 1), Stored::f32);
    CHECK(contains(
        refused(
            gguf_of(peft, 8, head_dim).tensor("blk.0.attn_norm.weight.lora_a", {4, 32}, 0, factor)),
        "has no .lora_b beside it"));
    CHECK(contains(refused(gguf_of(peft, 8, head_dim)
                               .tensor("token_embd.weight.lora_a", {4, 32}, 0, factor)
                               .tensor("token_embd.weight.lora_b", {32, 4}, 0, factor)),
                   "is of no matrix of a llama that can be changed"));
    CHECK(contains(refused(gguf_of(peft, 8, head_dim).tensor("x", {4, 32}, 0, factor)),
                   "neither a .lora_a nor a .lora_b"));
    CHECK(contains(refused(gguf_of(peft, 8, head_dim).u32("adapter.alora.invocation_tokens", 1)),
                   "key 'adapter.alora.invocation_tokens'"));
    CHECK(contains(refused(GgufWriter().string("general.architecture", "llama")), "general.type"));
    CHECK(contains(refused(GgufWriter()
                               .string("general.type", "adapter")
                               .string("adapter.type", "lora")
                               .string("general.architecture", "gpt2")),
                   "'gpt2' is not supported"));
    // Without alpha the factors count as they are.
    test::write_file(temp / "plain.gguf", gguf_of(peft, 0, head_dim).bytes());
    options.from = temp / "plain.gguf";
    CHECK(import_adapter(options).draft.adapter.pairs[0].scale == 1.0F);
}

TEST_CASE("adapter import: six real layouts match the images of their base, whatever it came in") {
    const std::string shared = test::shared_data();
    const fs::path data = fs::path(shared) / "stories260K";
    if (shared.empty() || !fs::exists(data / "adapters")) {
        M4_SKIP("no reference data: stories260K/adapters");
    }
    const TempFolder temp;
    Bases::pack(data / "hf", temp / "from-hf", M4_DTYPE_F16);
    Bases::pack(data / "stories260K.f32.gguf", temp / "from-gguf", M4_DTYPE_F32);
    const std::map<std::string, std::size_t> pairs = {
        {"adapter-partial", 14}, {"adapter-r16", 35}, {"adapter-r32", 20},
        {"adapter-r4", 10},      {"adapter-r8", 20},  {"adapter-rslora", 35}};
    std::optional<Digest> base;
    for (const auto& [name, count] : pairs) {
        for (const fs::path& from : {temp / "from-hf", temp / "from-gguf"}) {
            CAPTURE(name);
            AdapterImportOptions options;
            options.from = data / "adapters" / name;
            options.base = from;
            const AdapterImport imported = import_adapter(options);
            const Adapter& adapter = imported.draft.adapter;
            CHECK(adapter.name == name);
            CHECK(imported.match->complete());
            CHECK(imported.match->matched == count);
            CHECK(adapter.pairs.size() == count);
            CHECK(base.value_or(adapter.base) == adapter.base);
            base = adapter.base;
            CHECK(is_set(adapter.probed));
            CHECK(adapter.pairs[0].scale == (name == "adapter-r32"      ? 1.0F
                                             : name == "adapter-rslora" ? 4.0F
                                                                        : 2.0F));
            for (const double norm : imported.norms) {
                CHECK(norm > 0);
            }
        }
    }
    const fs::path foreign = fs::path(shared) / "peft" / "gpt2-tigrinya";
    AdapterImportOptions options;
    options.from = foreign;
    options.base = temp / "from-hf";
    const std::string text = refusal([&] { (void)import_adapter(options); });
    CAPTURE(text);
    CHECK(contains(text, "no part has any of its 36 tensors"));
    CHECK(contains(text, "transformer.h.0.attn.c_attn.weight"));
    options.base.clear();
    CHECK(import_adapter(options).draft.adapter.pairs.size() == 36);
}

}  // namespace m4::firmware
