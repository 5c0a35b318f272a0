// SPDX-License-Identifier: MIT
// Images, sounds, motion and texts as a user sends them: packed by m4fw, served by m4d,
// asked through libm4client and m4ctl; against the reference data where it is there.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "checkpoint_writer.hpp"
#include "reference_data.hpp"
#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

/// Solves a x = b for several b at once, by elimination; a is symmetric and positive.
void solve(std::vector<std::vector<double>>& a, std::vector<std::vector<double>>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
        for (std::size_t row = i + 1; row < a.size(); ++row) {
            const double factor = a[row][i] / a[i][i];
            for (std::size_t column = i; column < a.size(); ++column) {
                a[row][column] -= factor * a[i][column];
            }
            for (std::size_t k = 0; k < b[0].size(); ++k) {
                b[row][k] -= factor * b[i][k];
            }
        }
    }
    for (std::size_t i = a.size(); i-- > 0;) {
        for (std::size_t k = 0; k < b[0].size(); ++k) {
            for (std::size_t column = i + 1; column < a.size(); ++column) {
                b[i][k] -= a[i][column] * b[column][k];
            }
            b[i][k] /= a[i][i];
        }
    }
}

/// How many of those not trained on a ridge regression names right: features are
/// standardised by the training set, targets +1 and -1, the bias a feature.
template <typename IsTraining>
double ridge_accuracy(std::vector<std::vector<double>>& features,
                      const std::vector<std::int64_t>& labels, std::size_t classes,
                      IsTraining&& is_training) {
    constexpr double kLambda = 5;
    const std::size_t width = features[0].size();
    for (std::size_t d = 0; d < width; ++d) {
        double count = 0;
        double sum = 0;
        double squares = 0;
        for (std::size_t i = 0; i < features.size(); ++i) {
            if (is_training(i)) {
                ++count;
                sum += features[i][d];
                squares += features[i][d] * features[i][d];
            }
        }
        const double mean = sum / count;
        const double deviation = std::sqrt(squares / count - mean * mean) + 1e-12;
        for (auto& row : features) {
            row[d] = (row[d] - mean) / deviation;
        }
    }
    for (auto& row : features) {
        row.push_back(1);
    }
    std::vector<std::vector<double>> a(width + 1, std::vector<double>(width + 1));
    std::vector<std::vector<double>> b(width + 1, std::vector<double>(classes));
    for (std::size_t d = 0; d <= width; ++d) {
        a[d][d] = kLambda;
    }
    for (std::size_t i = 0; i < features.size(); ++i) {
        for (std::size_t d = 0; is_training(i) && d <= width; ++d) {
            for (std::size_t e = 0; e <= width; ++e) {
                a[d][e] += features[i][d] * features[i][e];
            }
            for (std::size_t k = 0; k < classes; ++k) {
                b[d][k] += features[i][d] * (static_cast<std::size_t>(labels[i]) == k ? 1 : -1);
            }
        }
    }
    solve(a, b);
    double right = 0;
    double count = 0;
    for (std::size_t i = 0; i < features.size(); ++i) {
        if (is_training(i)) {
            continue;
        }
        std::vector<double> scores(classes);
        for (std::size_t k = 0; k < classes; ++k) {
            for (std::size_t d = 0; d <= width; ++d) {
                scores[k] += features[i][d] * b[d][k];
            }
        }
        const auto best = std::max_element(scores.begin(), scores.end()) - scores.begin();
        right += best == labels[i] ? 1 : 0;
        ++count;
    }
    return right / count;
}

std::filesystem::path pack(const Scratch& scratch, std::vector<std::string> arguments) {
    const std::filesystem::path image = scratch / "image";
    arguments.insert(arguments.begin(), {binary("m4fw"), "pack", "--out", image.string()});
    const Finished packed = run(arguments);
    INFO(packed.err);
    REQUIRE(packed.status == 0);
    return image;
}

/// Embeddings that m4ctl prints, one behind the other.
std::vector<float> embed(const Service& service, std::vector<std::string> arguments,
                         const char* field = "embedding") {
    arguments.insert(arguments.begin(), "embed");
    std::vector<float> all;
    const json told = service.ctl_json(std::move(arguments));
    for (const json& one : told.at("embeddings")) {
        const auto values = one.at(field).get<std::vector<float>>();
        CHECK(one.at("dim") == values.size());
        all.insert(all.end(), values.begin(), values.end());
    }
    return all;
}

}  // namespace

#define NEEDS_SHARED()                \
    if (shared_data().empty()) {      \
        M4_SKIP("no reference data"); \
    }
#define NEEDS_DRIVER()                                     \
    if (!have_vulkan_driver()) {                           \
        M4_SKIP("no Vulkan driver: m4d needs one to run"); \
    }

TEST_CASE("an image of encoders alone is served, and says what it cannot do") {
    NEEDS_DRIVER();
    const Scratch scratch;
    const std::string checkpoint = (scratch / "limu.safetensors").string();
    write_file(checkpoint, safetensors_bytes(random_limu()));
    std::vector<float> samples(2 * 120 * 6);
    for (std::size_t i = 0; i < samples.size(); ++i) {
        samples[i] = std::sin(static_cast<float>(i));
    }
    const std::string data = (scratch / "data.safetensors").string();
    std::vector<float> bad = samples;
    bad[7] = std::nanf("");
    write_file(
        data,
        safetensors_bytes(
            {{"x", {"F32", {2, 120, 6}, store_values(samples, Stored::f32)}},
             {"short",
              {"F32",
               {100, 6},
               store_values({samples.begin(), samples.begin() + 600}, Stored::f32)}},
             {"five",
              {"F32",
               {120, 5},
               store_values({samples.begin(), samples.begin() + 600}, Stored::f32)}},
             {"bad",
              {"F32", {120, 6}, store_values({bad.begin(), bad.begin() + 720}, Stored::f32)}}}));
    const Service service(pack(scratch, {"--part", "motion=" + checkpoint}));

    const json parts = service.ctl_json({"parts"}).at("parts");
    REQUIRE(parts.size() == 1);
    CHECK(parts[0].at("name") == "motion");
    CHECK(parts[0].at("takes") == "motion");
    const auto width = parts[0].at("embedding").get<std::size_t>();

    const auto first = embed(service, {"--imu", data + "#x[0]"});
    CHECK(first.size() == width);
    const auto both = embed(service, {"--imu", data + "#x[0]", "--imu", data + "#x[1]"});
    REQUIRE(both.size() == 2 * width);
    CHECK(relative({both.begin(), both.begin() + static_cast<std::ptrdiff_t>(width)}, first) <
          1e-5);
    const auto hidden = embed(service, {"--hidden", "--imu", data + "#x[0]"}, "hidden");
    CHECK(hidden.size() == 120 * width);

    const json similar = service.ctl_json({"similar", "--query-imu", data + "#x[1]", "--imu",
                                           data + "#x[0]", "--imu", data + "#x[1]"});
    const json& ranked = similar.at("results").at(0).at("items");
    REQUIRE(ranked.size() == 2);
    CHECK(ranked[0].at("index") == 1);
    CHECK(ranked[0].at("cosine").get<double>() == doctest::Approx(1).epsilon(1e-5));

    const auto refused = [&](std::vector<std::string> arguments, const std::string& words) {
        const Finished finished = service.ctl(arguments);
        CAPTURE(finished.err);
        CHECK(finished.status != 0);
        CHECK(finished.err.find(words) != std::string::npos);
    };
    refused({"embed", "--imu", data + "#short"}, "100");
    refused({"embed", "--imu", data + "#five"}, "channels");
    refused({"embed", "--imu", data + "#bad"}, "not a number");
    refused({"embed", "--imu", data + "#none"}, "has no tensor");
    refused({"embed", "--text", "words"}, "no encoder that takes text");
    refused({"embed", "--part", "eye", "--imu", data + "#x[0]"}, "has no part 'eye'");
    refused({"classify", "--imu", data + "#x[0]"}, "scores");
    refused({"run", "Once"}, "no backbone");
    refused({"tokenize", "Once"}, "no backbone");
    refused({"embed"}, "is needed");
    // After all of that.
    CHECK(embed(service, {"--imu", data + "#x[0]"}) == first);
    CHECK(service.ctl_json({"status"}).at("inputs_encoded").get<int>() >= 5);
}

TEST_CASE("ImageBind: every sense's embedding is the reference's, through the service") {
    NEEDS_DRIVER();
    NEEDS_SHARED();
    const std::string folder = shared_data() + "/imagebind-tiny";
    const std::string io = folder + "/imagebind-tiny.io.safetensors";
    const Scratch scratch;
    const Service service(pack(scratch, {"--quantize", "f32", "--part",
                                         "senses=" + folder + "/imagebind-tiny.safetensors"}));
    CHECK(
        relative(embed(service, {"--image", io + "#in.vision[0]", "--image", io + "#in.vision[1]"}),
                 reference(io, "out.vision")) < 1e-3);
    CHECK(relative(embed(service, {"--audio", io + "#in.audio[0]"}), reference(io, "out.audio")) <
          1e-3);
    CHECK(relative(embed(service, {"--imu", io + "#in.imu[0]", "--imu", io + "#in.imu[1]", "--part",
                                   "senses-imu"}),
                   reference(io, "out.imu")) < 1e-3);
    CHECK(relative(embed(service, {"--text", io + "#in.text[0]", "--text", io + "#in.text[1]",
                                   "--text", io + "#in.text[2]"}),
                   reference(io, "out.text")) < 1e-3);
}

TEST_CASE("digits: 812 of 1000, from their pixels") {
    NEEDS_DRIVER();
    NEEDS_SHARED();
    const std::string folder = shared_data() + "/mnist-vit";
    const Scratch scratch;
    const Service service(pack(
        scratch, {"--quantize", "f32", "--part", "digits=" + folder + "/mnist_vit.safetensors"}));
    const std::string digits = folder + "/t10k-1000.safetensors";
    const auto pixels = reference<std::uint8_t>(digits, "pixels");
    const auto labels = reference<std::int64_t>(digits, "label");
    REQUIRE(labels.size() == 1000);

    const Client client = connect(service.socket());
    using Media = struct m4_media;
    std::vector<Media> media(1000);
    std::vector<const Media*> inputs(1000);
    for (std::size_t i = 0; i < media.size(); ++i) {
        media[i] = m4_init_struct<Media>();
        media[i].kind = M4_MEDIA_GRAY8;
        media[i].width = 28;
        media[i].height = 28;
        media[i].data = &pixels.at(i * 784);
        media[i].bytes = 784;
        inputs[i] = &media[i];
    }
    m4_classify_options options = M4_INIT(m4_classify_options);
    options.top_n = 1;
    m4_classes* classes = nullptr;
    const int status = m4_classify(client.get(), inputs.data(), inputs.size(), &options, &classes);
    INFO(last_error(client.get()));
    REQUIRE(status == M4_OK);
    int right = 0;
    for (std::size_t i = 0; i < classes->count; ++i) {
        right += classes->classes[i].id == labels[i] ? 1 : 0;
    }
    m4_classes_free(classes);
    CHECK(right == 812);
}

TEST_CASE("motion: LIMU-BERT's states, and a linear head on them names activities") {
    NEEDS_DRIVER();
    NEEDS_SHARED();
    const std::string folder = shared_data() + "/limu-bert";
    const Scratch scratch;
    const Service service(
        pack(scratch, {"--quantize", "f32", "--part", "motion=" + folder + "/motion.safetensors"}));
    const std::string golden = folder + "/golden.safetensors";
    std::vector<std::string> arguments = {"--hidden"};
    for (int i = 0; i < 16; ++i) {
        arguments.insert(arguments.end(), {"--imu", golden + "#in.x[" + std::to_string(i) + "]"});
    }
    CHECK(relative(embed(service, arguments, "hidden"), reference(golden, "out.hidden")) < 1e-4);

    // The recipe of the data's README: ridge regression on the mean state.
    const std::string windows = folder + "/motionsense-windows.safetensors";
    const auto samples = reference(windows, "x");
    const auto labels = reference<std::int64_t>(windows, "y");
    const auto subjects = reference<std::int64_t>(windows, "subject");
    const Client client = connect(service.socket());
    using Media = struct m4_media;
    std::vector<Media> media(labels.size());
    std::vector<const Media*> inputs;
    for (std::size_t i = 0; i < media.size(); ++i) {
        media[i] = m4_init_struct<Media>();
        media[i].kind = M4_MEDIA_MOTION_F32;
        media[i].channels = 6;
        media[i].data = &samples.at(i * 720);
        media[i].bytes = 720 * sizeof(float);
        inputs.push_back(&media[i]);
    }
    m4_embedding* embedding = nullptr;
    const int status = m4_embed(client.get(), inputs.data(), inputs.size(), nullptr, &embedding);
    INFO(last_error(client.get()));
    REQUIRE(status == M4_OK);
    std::vector<std::vector<double>> features(labels.size());
    for (std::size_t i = 0; i < features.size(); ++i) {
        const float* row = embedding->values + i * embedding->dim;
        features[i].assign(row, row + embedding->dim);
    }
    m4_embedding_free(embedding);
    const auto is_training = [&](std::size_t i) { return subjects[i] <= 12; };
    const double accuracy = ridge_accuracy(features, labels, 6, is_training);
    MESSAGE("activities of subjects 13 to 18 named right: ", 100 * accuracy, " %");
    CHECK(accuracy >= 0.96);
}

TEST_CASE("keywords: KWT's clips, from their files") {
    NEEDS_DRIVER();
    NEEDS_SHARED();
    const std::string folder = shared_data() + "/kwt1";
    const Scratch scratch;
    const Service service(
        pack(scratch, {"--quantize", "f32", "--part", "words=" + folder + "/kwt1.tflite"}));
    std::ifstream file(folder + "/golden.json");
    const json golden = json::parse(file);
    int right = 0;
    for (const auto& [name, clip] : golden.at("clips").items()) {
        CAPTURE(name);
        const json told = service.ctl_json(
            {"classify", "--top", "0", "--audio", folder + "/wav/" + name + ".wav"});
        const json& classes = told.at("results").at(0).at("classes");
        REQUIRE(classes.size() == 12);
        right += classes.at(0).at("label") == clip.at("label") ? 1 : 0;
        if (clip.at("sample_rate_hz") == 16'000) {
            for (const json& one : classes) {
                const double wanted = clip.at("logits").at(one.at("id").get<std::size_t>());
                CHECK(std::abs(one.at("score").get<double>() - wanted) < 1e-2);
            }
        }
    }
    // Two are of another rate, and resampled here.
    CHECK(golden.at("clips").size() == 39);
    CHECK(right == 39);
}

TEST_CASE("a backbone, encoders and a projector answer a prompt of text and image") {
    NEEDS_DRIVER();
    NEEDS_SHARED();
    const Scratch scratch;
    // The backbone is 64 wide, as is the encoders' space.
    std::vector<float> weight(64 * 64);
    for (std::size_t i = 0; i < weight.size(); ++i) {
        weight[i] = 5 * std::sin(static_cast<float>(i) * 12.9898F);
    }
    const std::string projector = (scratch / "projector.safetensors").string();
    write_file(
        projector,
        safetensors_bytes(
            {{"weight", {"F32", {64, 64}, store_values(weight, Stored::f32)}},
             {"bias", {"F32", {64}, store_values(std::vector<float>(64, 0.1F), Stored::f32)}}}));
    const std::string data = shared_data();
    const std::string io = data + "/imagebind-tiny/imagebind-tiny.io.safetensors";
    const Service service(
        pack(scratch, {"--part", "backbone=" + data + "/stories260K/hf", "--part",
                       "senses=" + data + "/imagebind-tiny/imagebind-tiny.safetensors", "--part",
                       "projector=" + projector}));
    const auto tell = [&](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {"run", "--greedy", "--max-tokens", "16"});
        const json told = service.ctl_json(std::move(arguments));
        CHECK(told.at("usage").at("output_tokens") == 16);
        return told;
    };
    const json plain = tell({"Once upon a time"});
    const json seen = tell({"--image", io + "#in.vision[0]", "Once <image>upon a time"});
    const json other = tell({"--image", io + "#in.vision[1]", "Once <image>upon a time"});
    const json again = tell({"--image", io + "#in.vision[0]", "Once <image>upon a time"});
    const json both = tell({"--image", io + "#in.vision[0]", "--imu", io + "#in.imu[0]",
                            "Once <image>upon<imu> a time"});
    CHECK(seen.at("ids") == again.at("ids"));
    CHECK(seen.at("ids") != plain.at("ids"));
    CHECK(seen.at("usage").at("prompt_tokens").get<int>() >=
          plain.at("usage").at("prompt_tokens").get<int>() + 1);
    CHECK(both.at("usage").at("prompt_tokens").get<int>() >
          seen.at("usage").at("prompt_tokens").get<int>());
    // What an image is changes what is told; one of these differs.
    CHECK((seen.at("ids") != other.at("ids") || seen.at("ids") != both.at("ids")));
    const Finished too_many =
        service.ctl({"run", "--image", io + "#in.vision[0]", "<image><image>"});
    CHECK(too_many.status == 2);
    CHECK(service.ctl_json({"status"}).at("senses_bytes").get<std::uint64_t>() > 0);
}
