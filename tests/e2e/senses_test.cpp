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
#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

/// F32 values of a tensor of the reference data.
std::vector<float> reference(const std::string& path, const std::string& name) {
    std::ifstream file(path, std::ios::binary);
    std::uint64_t header_bytes = 0;
    file.read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes);
    std::string header(header_bytes, '\0');
    file.read(header.data(), static_cast<std::streamsize>(header_bytes));
    const json offsets = json::parse(header).at(name).at("data_offsets");
    const auto first = offsets.at(0).get<std::size_t>();
    std::vector<float> values((offsets.at(1).get<std::size_t>() - first) / sizeof(float));
    file.seekg(static_cast<std::streamoff>(8 + header_bytes + first));
    file.read(reinterpret_cast<char*>(values.data()),
              static_cast<std::streamsize>(values.size() * sizeof(float)));
    REQUIRE(file.good());
    return values;
}

/// Of each value its distance, by the largest of them.
double relative(const std::vector<float>& got, const std::vector<float>& wanted) {
    if (got.size() != wanted.size() || got.empty()) {
        return HUGE_VAL;
    }
    double largest = 0;
    double difference = 0;
    for (std::size_t i = 0; i < got.size(); ++i) {
        const double distance = std::abs(double{got[i]} - double{wanted[i]});
        largest = std::max(largest, std::abs(double{wanted[i]}));
        difference = std::isnan(distance) ? HUGE_VAL : std::max(difference, distance);
    }
    return difference / largest;
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
    for (const json& one : service.ctl_json(std::move(arguments)).at("embeddings")) {
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
    refused({"embed", "--imu", data + "#bad"}, "nan");
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
    std::ifstream file(folder + "/t10k-1000.safetensors", std::ios::binary);
    std::uint64_t header_bytes = 0;
    file.read(reinterpret_cast<char*>(&header_bytes), sizeof header_bytes);
    std::string header(header_bytes, '\0');
    file.read(header.data(), static_cast<std::streamsize>(header_bytes));
    const json tensors = json::parse(header);
    std::string bytes(std::istreambuf_iterator<char>(file), {});
    const char* pixels =
        bytes.data() + tensors.at("pixels").at("data_offsets").at(0).get<std::size_t>();
    const char* labels =
        bytes.data() + tensors.at("label").at("data_offsets").at(0).get<std::size_t>();

    const Client client = connect(service.socket());
    using Media = struct m4_media;
    std::vector<Media> media(1000);
    std::vector<const Media*> inputs(1000);
    for (std::size_t i = 0; i < media.size(); ++i) {
        media[i] = m4_init_struct<Media>();
        media[i].kind = M4_MEDIA_GRAY8;
        media[i].width = 28;
        media[i].height = 28;
        media[i].data = pixels + i * 784;
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
        std::int64_t label = 0;
        std::memcpy(&label, labels + i * sizeof label, sizeof label);
        right += classes->classes[i].id == label ? 1 : 0;
    }
    m4_classes_free(classes);
    CHECK(right == 812);
}

TEST_CASE("a backbone, encoders and a projector answer a prompt of text and image") {
    NEEDS_DRIVER();
    NEEDS_SHARED();
    const Scratch scratch;
    // The backbone is 64 wide, as is the encoders' space.
    std::vector<float> weight(64 * 64);
    for (std::size_t i = 0; i < weight.size(); ++i) {
        weight[i] = std::sin(static_cast<float>(i) * 12.9898F);
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
                       "look=" + projector}));
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
