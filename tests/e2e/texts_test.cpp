// SPDX-License-Identifier: MIT
// Texts as a user sends them: a CLIP of random weights with the published tokeniser,
// packed by m4fw, served by m4d, asked through libm4client and m4ctl.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "plain_transformer.hpp"
#include "reference_data.hpp"
#include "service.hpp"
#include "skip.hpp"

using namespace m4::test;
using nlohmann::json;

namespace {

using Ids = std::vector<std::uint32_t>;
using Floats = std::vector<float>;
using Media = struct m4_media;

constexpr std::uint32_t kFirst = 49'406;  // <|startoftext|>
constexpr std::uint32_t kLast = 49'407;   // <|endoftext|>
constexpr std::uint64_t kVocabulary = 49'408;
constexpr std::uint64_t kContext = 9;
constexpr std::uint64_t kWidth = 32;
constexpr std::uint64_t kShared = 24;
constexpr std::uint32_t kSide = 12;
constexpr float kLogScale = 2.6592F;
constexpr std::size_t kMostBytes = 64U << 10;  // of a text

void add_block(PlainTensors& tensors, const std::string& at) {
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
        tensors.add_linear(at + "self_attn." + name, kWidth, kWidth);
    }
    tensors.add_norm(at + "layer_norm1", kWidth);
    tensors.add_norm(at + "layer_norm2", kWidth);
    tensors.add_linear(at + "mlp.fc1", 40, kWidth);
    tensors.add_linear(at + "mlp.fc2", kWidth, 40);
}

/// By Hugging Face's names: pictures of 12 x 12 in patches of 4, texts of 9 tokens.
PlainTensors random_clip() {
    PlainTensors tensors(21);
    const std::string vision = "vision_model.";
    tensors.add(vision + "embeddings.class_embedding", {kWidth});
    tensors.add(vision + "embeddings.patch_embedding.weight", {kWidth, 3, 4, 4});
    tensors.add(vision + "embeddings.position_embedding.weight", {10, kWidth});
    tensors.add_norm(vision + "pre_layrnorm", kWidth);
    tensors.add_norm(vision + "post_layernorm", kWidth);
    const std::string text = "text_model.";
    tensors.add(text + "embeddings.token_embedding.weight", {kVocabulary, kWidth}, 1);
    tensors.add(text + "embeddings.position_embedding.weight", {kContext, kWidth});
    tensors.add_norm(text + "final_layer_norm", kWidth);
    add_block(tensors, vision + "encoder.layers.0.");
    add_block(tensors, text + "encoder.layers.0.");
    tensors.add("visual_projection.weight", {kShared, kWidth});
    tensors.add("text_projection.weight", {kShared, kWidth});
    tensors.set("logit_scale", {}, {kLogScale});
    return tensors;
}

/// Packed once; without its tokeniser, too.
std::filesystem::path image_of(bool with_tokenizer) {
    static const Scratch scratch;
    static std::map<bool, std::filesystem::path> done;
    auto& image = done[with_tokenizer];
    if (image.empty()) {
        const auto target = scratch / (with_tokenizer ? "with" : "without");
        const std::string checkpoint = (scratch / "clip.safetensors").string();
        write_file(checkpoint, safetensors_bytes(random_clip().checkpoint()));
        std::vector<std::string> arguments = {binary("m4fw"), "pack",         "--quantize",
                                              "f32",          "--part",       "s=" + checkpoint,
                                              "--out",        target.string()};
        if (with_tokenizer) {
            arguments.insert(arguments.end(),
                             {"--tokenizer", "s=" + shared_data() +
                                                 "/tokenizers/clip_bpe_simple_vocab_16e6.txt.gz"});
        }
        const Finished packed = run(arguments);
        INFO(packed.err);
        REQUIRE(packed.status == 0);
        image = target;
    }
    return image;
}

Media text_media(std::string_view text) {
    Media media = M4_INIT(Media);
    media.kind = M4_MEDIA_TEXT;
    media.data = text.data();
    media.bytes = text.size();
    return media;
}

Media token_media(const Ids& ids) {
    Media media = M4_INIT(Media);
    media.kind = M4_MEDIA_TOKENS_U32;
    media.data = ids.data();
    media.bytes = ids.size() * sizeof(std::uint32_t);
    return media;
}

Media picture_media(const std::string& pixels) {
    Media media = M4_INIT(Media);
    media.kind = M4_MEDIA_RGB8;
    media.width = kSide;
    media.height = kSide;
    media.data = pixels.data();
    media.bytes = pixels.size();
    return media;
}

std::string pixels_of(unsigned seed) {
    std::string pixels(std::size_t{3} * kSide * kSide, '\0');
    for (std::size_t i = 0; i < pixels.size(); ++i) {
        pixels[i] = static_cast<char>((i * i * 31 + i * 7 + seed * 97) % 251);
    }
    return pixels;
}

std::vector<Floats> embed(const Client& client, const std::vector<Media>& media) {
    std::vector<const Media*> inputs;
    for (const Media& one : media) {
        inputs.push_back(&one);
    }
    m4_embedding* embedding = nullptr;
    const int status = m4_embed(client.get(), inputs.data(), inputs.size(), nullptr, &embedding);
    INFO(last_error(client.get()));
    REQUIRE(status == M4_OK);
    REQUIRE(embedding->count == media.size());
    REQUIRE(embedding->dim == kShared);
    std::vector<Floats> all;
    for (std::size_t i = 0; i < embedding->count; ++i) {
        const float* row = embedding->values + i * kShared;
        all.emplace_back(row, row + kShared);
    }
    m4_embedding_free(embedding);
    return all;
}

double length_of(const Floats& values) {
    return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
}

double cosine(const Floats& a, const Floats& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0) / (length_of(a) * length_of(b));
}

/// The most that a text may be: words of one token.
std::string longest_text() {
    std::string text;
    while (text.size() < kMostBytes) {
        text += "cat ";
    }
    return text;
}

}  // namespace

#define NEEDS_ALL()                                        \
    if (!have_vulkan_driver()) {                           \
        M4_SKIP("no Vulkan driver: m4d needs one to run"); \
    }                                                      \
    if (shared_data().empty()) {                           \
        M4_SKIP("no reference data");                      \
    }

TEST_CASE("texts: a text is embedded as its published tokens are") {
    NEEDS_ALL();
    const Service service(image_of(true));
    const Client client = connect(service.socket());
    const std::vector<std::pair<std::string, Ids>> texts = {
        {"a photo of a cat", {kFirst, 320, 1125, 539, 320, 2368, kLast}},
        {"  A PHOTO of\n a cat ", {kFirst, 320, 1125, 539, 320, 2368, kLast}},
        {"hello world!", {kFirst, 3306, 1002, 256, kLast}},
        {"", {kFirst, kLast}},
        // EOS takes the place of the last token that there is room for.
        {"a a a a a a a a a a a", {kFirst, 320, 320, 320, 320, 320, 320, 320, kLast}},
    };
    std::vector<Media> as_text;
    std::vector<Media> as_tokens;
    for (const auto& [text, ids] : texts) {
        as_text.push_back(text_media(text));
        as_tokens.push_back(token_media(ids));
    }
    const auto of_text = embed(client, as_text);
    const auto of_tokens = embed(client, as_tokens);
    for (std::size_t i = 0; i < texts.size(); ++i) {
        CAPTURE(texts[i].first);
        CHECK(relative(of_text[i], of_tokens[i]) < 1e-5);
        CHECK(length_of(of_text[i]) == doctest::Approx(std::exp(kLogScale)).epsilon(1e-4));
        const auto alone = embed(client, {as_text[i]});
        CHECK(relative(alone[0], of_text[i]) < 1e-5);
    }
    // Not because all are alike.
    CHECK(of_text[0] == of_text[1]);
    CHECK(cosine(of_text[0], of_text[2]) < 0.99);
    CHECK(cosine(of_text[0], of_text[3]) < 0.99);
    CHECK(cosine(of_text[0], of_text[4]) < 0.99);

    // The same in words and as a file of ids, by m4ctl.
    const Scratch scratch;
    const std::string file = (scratch / "ids.safetensors").string();
    std::string bytes;
    for (const std::int64_t id : texts[0].second) {
        bytes.append(reinterpret_cast<const char*>(&id), sizeof id);
    }
    write_file(file, safetensors_bytes({{"cat", {"I64", {texts[0].second.size()}, bytes}}}));
    const json told =
        service.ctl_json({"embed", "--text", texts[0].first, "--text", file + "#cat"});
    REQUIRE(told.at("embeddings").size() == 2);
    for (const json& one : told.at("embeddings")) {
        CHECK(relative(one.at("embedding").get<Floats>(), of_text[0]) < 1e-5);
    }
}

TEST_CASE("texts: labels are chosen by cosine times the published scale") {
    NEEDS_ALL();
    const Service service(image_of(true));
    const Client client = connect(service.socket());
    const std::vector<std::string> pictures = {pixels_of(1), pixels_of(2)};
    const std::vector<const char*> labels = {"a photo of a cat", "a dog", "a diagram"};
    std::vector<Media> media;
    std::vector<const Media*> inputs;
    for (const std::string& pixels : pictures) {
        media.push_back(picture_media(pixels));
    }
    for (const Media& one : media) {
        inputs.push_back(&one);
    }
    std::vector<Media> label_media;
    for (const char* label : labels) {
        label_media.push_back(text_media(label));
    }
    const auto seen = embed(client, media);
    const auto texts = embed(client, label_media);

    m4_classify_options options = M4_INIT(m4_classify_options);
    options.labels = labels.data();
    options.label_count = labels.size();
    m4_classes* classes = nullptr;
    const int status = m4_classify(client.get(), inputs.data(), inputs.size(), &options, &classes);
    INFO(last_error(client.get()));
    REQUIRE(status == M4_OK);
    REQUIRE(classes->count == 2);
    REQUIRE(classes->top_n == 3);
    for (std::size_t i = 0; i < 2; ++i) {
        std::vector<double> wanted;
        double sum = 0;
        for (const Floats& text : texts) {
            wanted.push_back(cosine(seen[i], text) * std::exp(kLogScale));
            sum += std::exp(wanted.back());
        }
        for (std::size_t k = 0; k < 3; ++k) {
            const m4_class& one = classes->classes[i * 3 + k];
            REQUIRE(one.id < 3);
            CHECK(std::string(one.label) == labels[one.id]);
            CHECK(std::abs(one.score - wanted[one.id]) < 1e-4);
            CHECK(std::abs(one.probability - std::exp(wanted[one.id]) / sum) < 1e-4);
            CHECK((k == 0 || one.score <= classes->classes[i * 3 + k - 1].score));
        }
    }
    m4_classes_free(classes);
}

TEST_CASE("texts: pictures are found by what is asked for in words") {
    NEEDS_ALL();
    const Service service(image_of(true));
    const Client client = connect(service.socket());
    std::string planes;
    std::vector<std::string> pictures;
    std::vector<Media> media;
    for (unsigned i = 0; i < 4; ++i) {
        pictures.push_back(pixels_of(i));
        planes += pictures.back();
    }
    for (const std::string& pixels : pictures) {
        media.push_back(picture_media(pixels));
    }
    const Scratch scratch;
    const std::string file = (scratch / "pictures.safetensors").string();
    write_file(file, safetensors_bytes({{"x", {"U8", {4, kSide, kSide, 3}, planes}}}));
    std::vector<std::string> arguments = {"similar", "--query-text", "a dog", "--query-text",
                                          "hello world!"};
    for (int i = 0; i < 4; ++i) {
        arguments.insert(arguments.end(), {"--image", file + "#x[" + std::to_string(i) + "]"});
    }
    const json told = service.ctl_json(arguments);
    const auto seen = embed(client, media);
    const auto asked = embed(client, {text_media("a dog"), text_media("hello world!")});
    REQUIRE(told.at("results").size() == 2);
    for (std::size_t q = 0; q < 2; ++q) {
        const json& items = told.at("results").at(q).at("items");
        REQUIRE(items.size() == 4);
        double last = 2;
        for (const json& item : items) {
            const double found = item.at("cosine");
            CHECK(std::abs(found - cosine(asked[q], seen.at(item.at("index")))) < 1e-5);
            CHECK(found <= last);
            last = found;
        }
    }
}

TEST_CASE("texts: 64 KiB are taken, a byte more is refused, and the service goes on") {
    NEEDS_ALL();
    const Service service(image_of(true));
    const Client client = connect(service.socket());
    std::string text = longest_text();
    const auto first = embed(client, {text_media(text)});
    CHECK(first == embed(client, {text_media("cat cat cat cat cat cat cat cat")}));

    text += 'c';
    const Media large = text_media(text);
    const Media small = text_media("a dog");
    const Media* inputs[] = {&small, &large};
    m4_embedding* embedding = nullptr;
    CHECK(m4_embed(client.get(), inputs, 2, nullptr, &embedding) == M4_E_TOO_LARGE);
    CHECK(embedding == nullptr);
    CHECK(last_error(client.get()).find("65537 bytes: at most 65536") != std::string::npos);

    const std::string pixels = pixels_of(3);
    const Media picture = picture_media(pixels);
    const Media* pictures[] = {&picture};
    const char* labels[] = {"a dog", text.c_str()};
    m4_classify_options options = M4_INIT(m4_classify_options);
    options.labels = labels;
    options.label_count = 2;
    m4_classes* classes = nullptr;
    CHECK(m4_classify(client.get(), pictures, 1, &options, &classes) == M4_E_TOO_LARGE);
    float cosines[2] = {};
    CHECK(m4_similarity(client.get(), inputs, 2, pictures, 1, cosines) == M4_E_TOO_LARGE);

    text.pop_back();
    CHECK(embed(client, {text_media(text)}) == first);
    CHECK(embed(connect(service.socket()), {small}).size() == 1);
}

TEST_CASE("texts: packed without a tokeniser, a part takes tokens alone and says so") {
    NEEDS_ALL();
    const Service service(image_of(false));
    const Client client = connect(service.socket());
    const Media text = text_media("a dog");
    const Media* inputs[] = {&text};
    m4_embedding* embedding = nullptr;
    CHECK(m4_embed(client.get(), inputs, 1, nullptr, &embedding) == M4_E_UNSUPPORTED);
    CHECK(last_error(client.get()).find("'s-text' was packed without a tokenizer") !=
          std::string::npos);
    const Ids ids = {kFirst, 320, 1929, kLast};
    CHECK(embed(client, {token_media(ids)}).size() == 1);
}
