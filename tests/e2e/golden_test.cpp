// SPDX-License-Identifier: MIT
// The right tokens: a trained model served by m4d against reference values
// computed elsewhere in float64.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "reference_data.hpp"
#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

struct Matrix {
    std::size_t rows = 0;
    std::size_t columns = 0;
    std::vector<float> values;
};

json read_json(const std::string& path) {
    std::ifstream file(path);
    return json::parse(file);
}

Matrix read_safetensor(const std::string& path, const std::string& name) {
    const ReferenceData file(path);
    const auto& shape = file.shape(name);
    Matrix matrix{shape.at(0), shape.at(1), file.read<float>(name)};
    REQUIRE(matrix.values.size() == matrix.rows * matrix.columns);
    return matrix;
}

std::vector<double> log_softmax(const float* logits, std::size_t count) {
    double highest = logits[0];
    for (std::size_t i = 1; i < count; ++i) {
        highest = std::max(highest, static_cast<double>(logits[i]));
    }
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) {
        sum += std::exp(logits[i] - highest);
    }
    std::vector<double> result(count);
    for (std::size_t i = 0; i < count; ++i) {
        result[i] = logits[i] - highest - std::log(sum);
    }
    return result;
}

// Full rows of log-probabilities, by token id.
std::vector<std::vector<double>> scored(const Service& service,
                                        const std::vector<std::uint32_t>& ids,
                                        std::uint32_t vocabulary) {
    const Client client = connect(service.socket());
    m4_score_options options = M4_INIT(struct m4_score_options);
    options.top_n = vocabulary;
    m4_score* score = nullptr;
    const int status = m4_score_tokens(client.get(), ids.data(), ids.size(), &options, &score);
    INFO(last_error(client.get()));
    REQUIRE(status == 0);
    REQUIRE(score->row_count == ids.size());
    REQUIRE(score->top_n == vocabulary);
    std::vector<std::vector<double>> rows(ids.size(), std::vector<double>(vocabulary, 1.0));
    for (std::size_t row = 0; row < score->row_count; ++row) {
        for (std::size_t i = 0; i < vocabulary; ++i) {
            const std::size_t at = row * vocabulary + i;
            rows[row].at(score->top_ids[at]) = score->top_logprobs[at];
        }
    }
    m4_score_free(score);
    return rows;
}

double worst_difference(const Service& service, const std::string& folder) {
    const json golden = read_json(folder + "/golden.json");
    double worst = 0;
    for (const auto& [name, entry] : golden.items()) {
        const Matrix logits = read_safetensor(folder + "/logits.safetensors", name);
        const auto ids = entry.at("ids").get<std::vector<std::uint32_t>>();
        REQUIRE(logits.rows == ids.size());
        const auto rows = scored(service, ids, static_cast<std::uint32_t>(logits.columns));
        for (std::size_t row = 0; row < logits.rows; ++row) {
            const auto expected =
                log_softmax(logits.values.data() + row * logits.columns, logits.columns);
            for (std::size_t i = 0; i < logits.columns; ++i) {
                worst = std::max(worst, std::abs(expected[i] - rows[row][i]));
            }
        }
    }
    return worst;
}

void check_golden_texts(const Service& service, const std::string& golden_path) {
    const json golden = read_json(golden_path);
    REQUIRE(golden.size() >= 4);
    for (const auto& [name, entry] : golden.items()) {
        CAPTURE(name);
        const std::string prompt = entry.at("prompt");
        const std::string text = entry.at("text");
        const std::size_t steps = entry.at("ids").size() - entry.at("prompt_ids").size();
        const Finished finished =
            service.ctl({"run", "--greedy", "--max-tokens", std::to_string(steps), prompt});
        INFO(finished.err);
        REQUIRE(finished.status == 0);
        CHECK(prompt + finished.out == text);

        const json tokens = service.ctl_json({"tokenize", prompt});
        CHECK(tokens.at("ids") == entry.at("prompt_ids"));
    }
}

struct Source {
    const char* file;
    const char* stored;
};

}  // namespace

TEST_CASE("golden: greedy text of stories260K, from GGUF F32, GGUF F16 and Hugging Face") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    const std::string folder = data + "/stories260K";
    for (const Source source : {Source{"stories260K.f32.gguf", "f32"},
                                Source{"stories260K.f16.gguf", "f16"}, Source{"hf", "f32"}}) {
        CAPTURE(source.file);
        const Service service(packed(folder + "/" + source.file, source.stored));
        check_golden_texts(service, folder + "/golden.json");
    }
}

TEST_CASE("golden: a backbone answers as ever with encoders beside it in its image") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    const Scratch scratch;
    const std::filesystem::path image = scratch / "image";
    const Finished pack =
        run({binary("m4fw"), "pack", "--part", "motion=" + data + "/limu-bert/motion.safetensors",
             "--part", "backbone=" + data + "/stories260K/hf", "--part",
             "eye=" + data + "/mnist-vit/mnist_vit.safetensors", "--out", image.string(),
             "--quantize", "f32"});
    INFO(pack.err);
    REQUIRE(pack.status == 0);
    const Service service(image);
    check_golden_texts(service, data + "/stories260K/golden.json");
}

TEST_CASE("golden: log-probabilities of stories260K at every position") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    const std::string folder = data + "/stories260K";
    const auto image = packed(folder + "/stories260K.f32.gguf", "f32");
    const double f32 = worst_difference(Service(image, {"--kv-cache", "f32"}), folder);
    const double f16 = worst_difference(Service(image), folder);
    MESSAGE("largest log-probability difference: F32 KV ", f32, ", F16 KV ", f16);
    CHECK(f32 <= 1e-3);
    CHECK(f16 <= 5e-2);
}

TEST_CASE("golden: one source digest whatever file the checkpoint came in") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("no reference data folder");
    }
    const std::string folder = data + "/stories260K";
    std::vector<std::string> digests;
    for (const char* file : {"stories260K.f32.gguf", "stories260K.f16.gguf", "hf"}) {
        const Service service(packed(folder + "/" + file, "f32"));
        digests.push_back(service.ctl_json({"firmware", "show"}).at("source_digest"));
    }
    CHECK(digests[0].size() == 64);
    CHECK(digests[0] == digests[1]);
    CHECK(digests[0] == digests[2]);
}

TEST_CASE("golden: greedy text of the default image") {
    const auto image = nano_image();
    if (image.empty()) {
        M4_SKIP("firmware/nano/image is not in this tree");
    }
    const Service service(image);
    check_golden_texts(service, source_root() + "/firmware/nano/golden.json");
}

TEST_CASE("golden: prefill in pieces of any size agrees") {
    const auto image = nano_image();
    if (image.empty()) {
        M4_SKIP("firmware/nano/image is not in this tree");
    }
    const json golden = read_json(source_root() + "/firmware/nano/golden.json");
    const auto& entry = *std::max_element(
        golden.begin(), golden.end(),
        [](const json& a, const json& b) { return a.at("ids").size() < b.at("ids").size(); });
    const auto ids = entry.at("ids").get<std::vector<std::uint32_t>>();
    std::vector<std::vector<std::vector<double>>> results;
    for (const char* rows : {"64", "7", "4"}) {
        const Service service(image, {"--max-step-rows", rows});
        const auto vocabulary =
            service.ctl_json({"firmware", "show"}).at("vocabulary").get<std::uint32_t>();
        results.push_back(scored(service, ids, vocabulary));
    }
    double worst = 0;
    for (std::size_t row = 0; row < ids.size(); ++row) {
        for (std::size_t i = 0; i < results[0][row].size(); ++i) {
            worst = std::max({worst, std::abs(results[0][row][i] - results[1][row][i]),
                              std::abs(results[0][row][i] - results[2][row][i])});
        }
    }
    MESSAGE("largest difference between prefill shapes: ", worst);
    CHECK(worst <= 1e-3);
}
