// SPDX-License-Identifier: MIT
// Images and the like through the library and the service, over a fake engine: what
// arrives, what is not computed twice, and what is refused.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <m4client.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "service_bench.hpp"

using namespace m4;
using test::FakeBackend;
using test::Service;

namespace {

using Media = struct m4_media;

/// Of the fake image's "eye": 2 x 2 gray pixels.
Media image(const std::array<std::uint8_t, 4>& pixels) {
    Media media = M4_INIT(m4_media);
    media.kind = M4_MEDIA_GRAY8;
    media.data = pixels.data();
    media.bytes = pixels.size();
    media.width = 2;
    media.height = 2;
    return media;
}

Media features(const std::vector<float>& values) {
    Media media = M4_INIT(m4_media);
    media.kind = M4_MEDIA_FEATURES_F32;
    media.data = values.data();
    media.bytes = values.size() * sizeof(float);
    media.channels = 2;
    return media;
}

class Client {
   public:
    explicit Client(const Service& service) : socket_(service.socket().string()) {
        m4_connect_options options = M4_INIT(m4_connect_options);
        options.socket_path = socket_.c_str();
        options.timeout_ms = 30'000;
        REQUIRE(m4_client_connect(&options, &client_) == M4_OK);
    }
    ~Client() { m4_client_close(client_); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    [[nodiscard]] m4_client* get() const { return client_; }

    /// The embedding of one input, or the code and words of the failure.
    std::vector<float> embed(const Media& media, const char* part = nullptr) {
        const Media* input = &media;
        m4_encode_options options = M4_INIT(m4_encode_options);
        options.part = part;
        m4_embedding* made = nullptr;
        code = m4_embed(client_, &input, 1, &options, &made);
        if (code != M4_OK) {
            struct m4_error_info info = M4_INIT(m4_error_info);
            m4_client_error(client_, &info);
            words = info.message;
            return {};
        }
        std::vector<float> values(made->values, made->values + made->dim);
        words = made->part;
        m4_embedding_free(made);
        return values;
    }
    using Status = struct m4_status;
    Status status() {
        auto now = m4_init_struct<Status>();
        REQUIRE(m4_status(client_, &now) == M4_OK);
        return now;
    }

    int code = 0;
    std::string words;

   private:
    std::string socket_;
    m4_client* client_ = nullptr;
};

/// A memfd of four pixels, with these seals.
int memfd(int seals, off_t bytes = 4) {
    const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    REQUIRE(fd >= 0);
    const std::array<std::uint8_t, 4> pixels = {1, 2, 3, 4};
    REQUIRE(write(fd, pixels.data(), pixels.size()) == 4);
    REQUIRE(ftruncate(fd, bytes) == 0);
    if (seals != 0) {
        REQUIRE(fcntl(fd, F_ADD_SEALS, seals) == 0);
    }
    return fd;
}

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

}  // namespace

TEST_CASE("senses: an image is prepared, encoded, and known the second time") {
    const Service service;
    Client client(service);
    // As the recipe says: (p / 255 - 0) / 1, summed by the fake; then its part's number.
    CHECK(client.embed(image({51, 51, 102, 51})) ==
          std::vector<float>{51.0F / 255 + 51.0F / 255 + 102.0F / 255 + 51.0F / 255, 1});
    CHECK(client.words == "eye");
    CHECK(client.status().inputs_encoded == 1);
    const auto again = client.embed(image({51, 51, 102, 51}));
    CHECK(again.size() == 2);
    CHECK(client.status().inputs_encoded == 1);
    CHECK(client.status().inputs_reused == 1);
    // One pixel differs, or one field of the description, or who asks.
    (void)client.embed(image({51, 51, 102, 50}));
    CHECK(client.status().inputs_encoded == 2);
    Client other(service);
    CHECK(other.embed(image({51, 51, 102, 51})) == again);
    CHECK(client.status().inputs_encoded == 3);
    CHECK(client.status().senses_bytes == 77);
}

TEST_CASE("senses: many inputs of a call, in order, each computed once") {
    const Service service;
    Client client(service);
    std::vector<std::array<std::uint8_t, 4>> pixels;
    for (std::uint8_t i = 0; i < 30; ++i) {
        pixels.push_back({static_cast<std::uint8_t>(i % 20), 0, 0, 0});
    }
    std::vector<Media> media;
    std::vector<const Media*> inputs;
    for (const auto& one : pixels) {
        media.push_back(image(one));
    }
    for (const Media& one : media) {
        inputs.push_back(&one);
    }
    m4_embedding* made = nullptr;
    REQUIRE(m4_embed(client.get(), inputs.data(), inputs.size(), nullptr, &made) == M4_OK);
    REQUIRE(made->count == 30);
    for (std::size_t i = 0; i < 30; ++i) {
        CHECK(made->values[2 * i] == doctest::Approx(static_cast<double>(i % 20) / 255));
    }
    m4_embedding_free(made);
    made = nullptr;
    REQUIRE(m4_embed(client.get(), inputs.data(), inputs.size(), nullptr, &made) == M4_OK);
    CHECK(made->values[2 * 19] == doctest::Approx(19.0 / 255));
    CHECK(made->values[2 * 29] == doctest::Approx(9.0 / 255));
    m4_embedding_free(made);
    CHECK(client.status().inputs_reused >= 30);
}

TEST_CASE("senses: classes by the part's labels, best first") {
    const Service service;
    Client client(service);
    const auto values = std::vector<float>{1, 3, 2, 0};
    const Media media = features(values);
    const Media* input = &media;
    m4_classify_options options = M4_INIT(m4_classify_options);
    options.top_n = 2;
    m4_classes* classes = nullptr;
    REQUIRE(m4_classify(client.get(), &input, 1, &options, &classes) == M4_OK);
    CHECK(classes->class_count == 4);
    REQUIRE(classes->top_n == 2);
    CHECK(std::string(classes->classes[0].label) == "two");
    CHECK(classes->classes[0].id == 1);
    CHECK(classes->classes[0].score == 3.0F);
    const double sum = std::exp(-2.0) + 1 + std::exp(-1.0) + std::exp(-3.0);
    CHECK(classes->classes[0].probability == doctest::Approx(1 / sum));
    CHECK(std::string(classes->classes[1].label) == "three");
    m4_classes_free(classes);

    // Against texts, as the tokeniser-less fake cannot: a clear no.
    const char* labels[] = {"a", "b"};
    options.labels = labels;
    options.label_count = 2;
    CHECK(m4_classify(client.get(), &input, 1, &options, &classes) == M4_E_UNSUPPORTED);
    options.label_count = 0;
    CHECK(m4_classify(client.get(), &input, 1, &options, &classes) == M4_E_INVALID);
}

TEST_CASE("senses: cosines of queries with items") {
    const Service service;
    Client client(service);
    // Embeddings are (sum, 1): the fake's part is 1.
    const std::vector<float> one = {1, 0, 0, 0};
    const std::vector<float> big = {1000, 0, 0, 0};
    const std::vector<float> none = {0, 0, 0, 0};
    const std::array media = {features(one), features(big), features(none)};
    const std::array<const Media*, 3> items = {&media[0], &media[1], &media[2]};
    std::array<float, 3> cosines{};
    REQUIRE(m4_similarity(client.get(), items.data(), 1, items.data(), 3, cosines.data()) == M4_OK);
    CHECK(cosines[0] == doctest::Approx(1));
    CHECK(cosines[1] == doctest::Approx(std::sqrt(0.5)).epsilon(0.01));
    CHECK(cosines[2] == doctest::Approx(std::sqrt(0.5)));
    CHECK(m4_similarity(client.get(), items.data(), 0, items.data(), 3, cosines.data()) ==
          M4_E_INVALID);
    CHECK(m4_similarity(client.get(), items.data(), 1, items.data(), 3, nullptr) == M4_E_INVALID);
}

TEST_CASE("senses: an input takes the place of tokens in a session") {
    const Service service;
    Client client(service);
    m4_session* session = nullptr;
    REQUIRE(m4_session_create(client.get(), nullptr, &session) == M4_OK);
    REQUIRE(m4_session_append_text(session, "see: ", 5, 0) == M4_OK);
    const Media media = image({1, 2, 3, 4});
    REQUIRE(m4_session_append_media(session, &media, nullptr) == M4_OK);
    // What comes next comes behind it, without waiting.
    REQUIRE(m4_session_append_text(session, "!", 1, 0) == M4_OK);
    std::uint32_t position = 0;
    REQUIRE(m4_session_position(session, &position, nullptr) == M4_OK);
    CHECK(position == 5 + 2 + 1);
    m4_encode_options options = M4_INIT(m4_encode_options);
    options.part = "ear";
    CHECK(m4_session_append_media(session, &media, &options) == M4_E_NOT_FOUND);
    CHECK(m4_session_append_media(session, nullptr, nullptr) == M4_E_INVALID);
    REQUIRE(m4_session_position(session, &position, nullptr) == M4_OK);
    CHECK(position == 8);
    m4_session_close(session);
}

TEST_CASE("senses: the parts are told") {
    const Service service;
    Client client(service);
    m4_part* parts = nullptr;
    std::size_t count = 0;
    REQUIRE(m4_parts(client.get(), &parts, &count) == M4_OK);
    REQUIRE(count == 4);
    CHECK(std::string(parts[0].kind) == "backbone");
    CHECK(std::string(parts[1].name) == "eye");
    CHECK(std::string(parts[1].modality) == "image");
    CHECK(parts[1].embedding == 2);
    CHECK(parts[1].labels == 4);
    CHECK(parts[1].feature_rows == 2);
    CHECK(std::string(parts[2].modality) == "text");
    CHECK(std::string(parts[3].space) == "shared");
    m4_free(parts);
}

TEST_CASE("senses: what is wrong with an input is said, and the service goes on") {
    const Service service;
    Client client(service);
    const std::array<std::uint8_t, 4> pixels = {1, 2, 3, 4};
    struct Case {
        std::string name;
        void (*change)(Media&);
        int code;
        const char* word;
    };
    static const std::array<float, 4> kBad = {1, 2, std::numeric_limits<float>::quiet_NaN(), 0};
    static const std::array<std::int16_t, 4> kSound = {1, 2, 3, 4};
    const Case cases[] = {
        {"kind", [](Media& m) { m.kind = 77; }, M4_E_INVALID, "kind"},
        {"too few bytes", [](Media& m) { m.bytes = 3; }, M4_E_INVALID, "byte"},
        {"lying stride", [](Media& m) { m.stride = 1; }, M4_E_INVALID, "stride"},
        {"endless stride", [](Media& m) { m.stride = UINT32_MAX; }, M4_E_INVALID, "byte"},
        {"no pixels", [](Media& m) { m.width = 0; }, M4_E_INVALID, "width"},
        {"very wide",
         [](Media& m) {
             m.width = 30'000;
             m.stride = 2;
         },
         M4_E_INVALID, "30000"},
        {"a channel too many", [](Media& m) { m.kind = M4_MEDIA_RGB8; }, M4_E_INVALID, ""},
        {"sound for no ear",
         [](Media& m) {
             m.kind = M4_MEDIA_PCM16;
             m.data = kSound.data();
             m.bytes = sizeof kSound;
             m.channels = 1;
             m.rate_hz = 16'000;
         },
         M4_E_UNSUPPORTED, "audio"},
        {"not a number",
         [](Media& m) {
             m.kind = M4_MEDIA_FEATURES_F32;
             m.data = kBad.data();
             m.bytes = sizeof kBad;
             m.channels = 2;
         },
         M4_E_INVALID, ""},
        {"half a row",
         [](Media& m) {
             m.kind = M4_MEDIA_FEATURES_F32;
             m.data = kBad.data();
             m.bytes = 12;
             m.channels = 2;
         },
         M4_E_INVALID, "whole"},
        {"no data", [](Media& m) { m.data = nullptr; }, M4_E_INVALID, "data"},
        {"both ways", [](Media& m) { m.in_fd = 1; }, M4_E_INVALID, "both"},
    };
    for (const Case& one : cases) {
        CAPTURE(one.name);
        Media media = image(pixels);
        one.change(media);
        CHECK(client.embed(media).empty());
        CAPTURE(client.words);
        CHECK(client.code == one.code);
        CHECK(client.words.find(one.word) != std::string::npos);
    }
    (void)client.embed(image(pixels), "nobody");
    CHECK(client.code == M4_E_NOT_FOUND);
    CHECK(client.words.find("eye") != std::string::npos);
    (void)client.embed(image(pixels), "mouth");
    CHECK(client.code == M4_E_UNSUPPORTED);
    Media text = M4_INIT(m4_media);
    text.kind = M4_MEDIA_TEXT;
    text.data = "words";
    text.bytes = 5;
    (void)client.embed(text);
    CHECK(client.code == M4_E_UNSUPPORTED);
    CHECK(client.words.find("tokenizer") != std::string::npos);
    (void)client.embed(text, "eye");
    CHECK(client.code == M4_E_INVALID);
    // After all of that.
    CHECK(client.embed(image(pixels)).size() == 2);
}

TEST_CASE("senses: a memfd of the app's own is read where it lies, if it is sealed and whole") {
    const Service service;
    Client client(service);
    const auto embed = [&](int fd, std::size_t bytes) {
        Media media = image({});
        media.data = nullptr;
        media.in_fd = 1;
        media.fd = fd;
        media.bytes = bytes;
        const auto values = client.embed(media);
        close(fd);
        return values;
    };
    CHECK(embed(memfd(kSeals), 4).size() == 2);
    CHECK(embed(memfd(0), 4).empty());
    CHECK(client.code == M4_E_INVALID);
    CHECK(client.words.find("sealed") != std::string::npos);
    CHECK(embed(memfd(F_SEAL_WRITE | F_SEAL_GROW), 4).empty());
    CHECK(client.code == M4_E_INVALID);
    CHECK(embed(memfd(kSeals), 5).empty());
    CHECK(client.words.find("size") != std::string::npos);
    CHECK(embed(memfd(kSeals, 1 << 20), 1 << 20).empty());
    CHECK(client.words.find("holes") != std::string::npos);
    CHECK(embed(memfd(kSeals), 4).size() == 2);
    CHECK(embed(-1, 4).empty());
    CHECK(client.code == M4_E_SYSTEM);
}

TEST_CASE("senses: a lost image encodes nothing") {
    Service service;
    Client client(service);
    CHECK(client.embed(image({1, 2, 3, 4})).size() == 2);
    service.revoke_image("it was altered");
    while (std::string(client.status().model_state) != "revoked") {
    }
    CHECK(client.embed(image({1, 2, 3, 4})).empty());
    CHECK(client.code == M4_E_VERIFY);
}
