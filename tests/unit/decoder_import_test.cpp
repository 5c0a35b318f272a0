// SPDX-License-Identifier: MIT
// Whisper's decoder beside its encoder, and the tokens that ask it for something.
#include <doctest/doctest.h>

#include <algorithm>

#include "image_samples.hpp"
#include "importers/import.hpp"
#include "lib/builder.hpp"
#include "lib/image.hpp"
#include "lib/tokenizer.hpp"
#include "plain_whisper.hpp"
#include "temp_folder.hpp"

namespace m4::test {

namespace {

constexpr const char* kGeneration = R"({"decoder_start_token_id": 30, "eos_token_id": 29,
"lang_to_id": {"<|en|>": 31, "<|de|>": 32}, "task_to_id": {"translate": 33, "transcribe": 34},
"no_timestamps_token_id": 40, "max_initial_timestamp_index": 5, "suppress_tokens": [1, 2],
"begin_suppress_tokens": [3, 29]})";

struct Folder {
    TempFolder path;
    WhisperDims dims;
    PlainTensors tensors = random_whisper(dims, 3);

    explicit Folder(const std::string& extra = {}) {
        write_file(path / "config.json", whisper_config(dims, extra));
    }

    /// "accepted", or why not.
    std::string import(const std::string& part_name = {}) {
        write_file(path / "model.safetensors", safetensors_bytes(tensors.checkpoint()));
        return refusal([&] {
            firmware::ImageBuilder builder("speech", "1", 0);
            firmware::import_model({.from = path / "model.safetensors",
                                    .stored = M4_DTYPE_F16,
                                    .part_name = part_name},
                                   builder);
            builder.write(path / "image", true);
        });
    }

    [[nodiscard]] firmware::Package package() const {
        return firmware::MappedImage::open_folder(path / "image").image().package();
    }
};

}  // namespace

TEST_CASE("Whisper: the decoder is a part of its own beside the encoder") {
    Folder folder;
    REQUIRE(folder.import() == "accepted");
    const auto package = folder.package();
    REQUIRE(package.parts.size() == 2);
    const firmware::Part& encoder = package.parts[0];
    const firmware::Part& decoder = package.parts[1];
    CHECK(encoder.name == "speech");
    CHECK(decoder.name == "speech-text");
    CHECK(decoder.kind == firmware::PartKind::decoder);
    CHECK(decoder.space == encoder.space);
    CHECK(decoder.memory_rows == 100);
    CHECK(decoder.context_length == 70);
    CHECK(decoder.vocabulary == 50);
    CHECK(!decoder.transcription);
    CHECK(decoder.programs.at(0).name == "prepare");
    CHECK(decoder.programs.at(0).states.size() == 4);
    CHECK(decoder.source_digest != encoder.source_digest);
    const std::uint64_t attention = 4 * 24 * 24 + 3 * 24 + 2 * 24;
    const std::uint64_t inner = 2 * 24 * 40 + 40 + 24 + 2 * 24;
    CHECK(decoder.parameters == 2 * (2 * attention + inner) + (70 + 50) * 24 + 2 * 24);
    CHECK(folder.import("ear") == "accepted");
    CHECK(folder.package().parts.at(1).name == "ear-text");
    CHECK(folder.package().parts.at(1).space == "ear");
}

TEST_CASE("Whisper: which tokens ask for what") {
    Folder folder;
    write_file(folder.path / "generation_config.json", std::string_view(kGeneration));
    REQUIRE(folder.import() == "accepted");
    const auto asked = folder.package().parts.at(1).transcription;
    REQUIRE(asked);
    CHECK(asked->start == 30);
    CHECK(asked->end == 29);
    REQUIRE(asked->languages.size() == 2);
    const auto german = std::ranges::find(asked->languages, "de", &firmware::Language::code);
    REQUIRE(german != asked->languages.end());
    CHECK(german->token == 32);
    CHECK(asked->transcribe == 34);
    CHECK(asked->translate == 33);
    CHECK(asked->no_timestamps == 40);
    CHECK(asked->first_timestamp == 41);
    CHECK(asked->timestamp_ms == 20);
    CHECK(asked->latest_first == 5);
    CHECK(asked->suppressed == std::vector<std::uint32_t>{1, 2});
    CHECK(asked->suppressed_first == std::vector<std::uint32_t>{3, 29});
    CHECK(asked->no_speech == 39);
    CHECK(asked->no_speech_probability == 0.6F);
    CHECK(asked->least_log_probability == -1.0F);
    const auto changed = [&](const std::string& key) {
        std::string text = kGeneration;
        text.insert(text.find('{') + 1, key + ", ");
        write_file(folder.path / "generation_config.json", text);
        return folder.import();
    };
    REQUIRE(changed(R"("no_speech_threshold": 0.25, "logprob_threshold": -2)") == "accepted");
    CHECK(folder.package().parts.at(1).transcription->no_speech_probability == 0.25F);
    CHECK(folder.package().parts.at(1).transcription->least_log_probability == -2.0F);
    CHECK(contains(changed(R"("no_speech_threshold": 1.5)"), "key 'no_speech_threshold': is not"));
    CHECK(contains(changed(R"("no_speech_threshold": 0)"), "key 'no_speech_threshold': is not"));
    CHECK(contains(changed(R"("logprob_threshold": 0)"), "key 'logprob_threshold': is not"));
    CHECK(contains(changed(R"("logprob_threshold": "low")"), "is not a finite number"));
    // The file's own goes before the folder's.
    write_file(folder.path / "model.generation_config.json",
               std::string_view(R"({"decoder_start_token_id": 7, "eos_token_id": 8})"));
    REQUIRE(folder.import() == "accepted");
    const auto other = folder.package().parts.at(1).transcription;
    REQUIRE(other);
    CHECK(other->start == 7);
    CHECK(other->languages.empty());
    CHECK(other->first_timestamp == 0);
    // Without either, what the configuration says.
    Folder plain(R"(, "decoder_start_token_id": 9, "eos_token_id": 10, "suppress_tokens": [4])");
    REQUIRE(plain.import() == "accepted");
    CHECK(plain.package().parts.at(1).transcription->start == 9);
    CHECK(plain.package().parts.at(1).transcription->suppressed.size() == 1);
}

TEST_CASE("Whisper: a vocabulary beside it is what its ids say") {
    Folder folder;
    write_file(folder.path / "vocab.json",
               std::string_view(R"({"Hello": 0, "\u0120w\u00c3\u00b6rld": 1, "\u00c3": 2,
"<|endoftext|>": 3, "!": 4})"));
    REQUIRE(folder.import() == "accepted");
    const auto mapped = firmware::MappedImage::open_folder(folder.path / "image");
    const firmware::Part& part = mapped.image().package().parts.at(1);
    REQUIRE(part.tokenizer_tensor != 0);
    const auto section = mapped.bytes(mapped.image().tensors().at(part.tokenizer_tensor));
    const firmware::Tokenizer tokenizer(section, "section");
    CHECK(tokenizer.vocabulary() == 50);
    const std::vector<std::uint32_t> ids = {3, 0, 1, 4, 49};
    CHECK(tokenizer.decode(ids) == "Hello w\u00f6rld!");
    CHECK(tokenizer.piece(2, true) == "\xc3");
    CHECK(tokenizer.piece(50, true).empty());
    CHECK(tokenizer.is_control(49));
    CHECK(tokenizer.encode("Hello", true).empty());
    // tokenizer.json goes before it; what that adds has no text.
    write_file(folder.path / "model.tokenizer.json",
               std::string_view(R"({"model": {"vocab": {"Bye": 0, "x": 1}},
"added_tokens": [{"id": 1, "content": "x"}, {"id": 7, "content": "<|0.00|>"}]})"));
    REQUIRE(folder.import() == "accepted");
    const auto again = firmware::MappedImage::open_folder(folder.path / "image");
    const auto other = again.bytes(
        again.image().tensors().at(again.image().package().parts.at(1).tokenizer_tensor));
    CHECK(firmware::Tokenizer(other, "section").decode(std::vector<std::uint32_t>{0, 1, 7}) ==
          "Bye");
    const auto refused = [&](std::string_view json, const char* why) {
        write_file(folder.path / "model.tokenizer.json", json);
        const std::string text = folder.import();
        CAPTURE(text);
        CHECK(contains(text, why));
    };
    refused(R"({"a": 50})", "id 50 is not below the vocabulary, 50");
    refused(R"({"a": -1})", "id -1 is not below");
    refused(R"({"a": 1, "b": 1})", "two tokens have id 1");
    refused(R"({"a b": 1})", "has a character that is no byte");
    refused(R"({"model": {}})", "key 'vocab': is missing");
    refused(R"({"model": {"vocab": {}}, "added_tokens": [1]})", "1 has no id");
    refused(R"({"model": {"vocab": {}}, "added_tokens": 1})", "is no list");
}

TEST_CASE("Whisper: a decoder that does not fit is refused by name") {
    struct Config {
        const char* extra;
        const char* expected;
    };
    for (const Config& one :
         {Config{R"(, "scale_embedding": true)", "key 'scale_embedding': true is not supported"},
          Config{R"(, "tie_word_embeddings": false)", "tensor 'proj_out.weight': is missing"},
          Config{R"(, "decoder_start_token_id": 50, "eos_token_id": 1)",
                 "key 'decoder_start_token_id': 50 is no token of 50"},
          Config{R"(, "decoder_start_token_id": 5, "eos_token_id": "x")",
                 "key 'eos_token_id': \"x\" is no token of 50"},
          Config{R"(, "decoder_start_token_id": 5, "eos_token_id": 1, "suppress_tokens": 3)",
                 "key 'suppress_tokens': is no list"},
          Config{R"(, "decoder_start_token_id": 5, "eos_token_id": 1, "suppress_tokens": [-1])",
                 "key 'suppress_tokens': -1 is no token of 50"},
          Config{R"(, "decoder_start_token_id": 5, "eos_token_id": 1, "lang_to_id": {"<|en|>": 2},
"task_to_id": {})",
                 "key 'transcribe': is missing"}}) {
        Folder folder(one.extra);
        const std::string text = folder.import();
        CAPTURE(text);
        CHECK(contains(text, one.expected));
    }
    Folder missing;
    missing.tensors.erase("model.decoder.layers.1.encoder_attn.v_proj.bias");
    CHECK(contains(missing.import(),
                   "tensor 'model.decoder.layers.1.encoder_attn.v_proj.bias': is missing"));
    Folder more;
    more.tensors.add("model.decoder.layers.2.fc1.bias", {40});
    CHECK(contains(more.import(), "tensor 'model.decoder.layers.2.fc1.bias': is no part"));
    Folder own(R"(, "tie_word_embeddings": false)");
    own.tensors.add("proj_out.weight", {50, 24});
    CHECK(own.import() == "accepted");
    // Without any of its layers it is left out.
    Folder without;
    const auto checkpoint = without.tensors.checkpoint();
    for (const auto& [name, tensor] : checkpoint) {
        if (name.starts_with("model.decoder.")) {
            without.tensors.erase(name);
        }
    }
    REQUIRE(without.import() == "accepted");
    CHECK(without.package().parts.size() == 1);
    CHECK(without.package().parts[0].space.empty());
}

}  // namespace m4::test
