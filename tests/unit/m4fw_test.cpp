// SPDX-License-Identifier: MIT
// The tool as a user runs it: exit codes, one line a failure, JSON.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "lib/image.hpp"
#include "run_tool.hpp"
#include "tiny_model.hpp"

using namespace m4::test;

namespace {

Ran m4fw(const std::string& arguments) {
    return run_tool("m4fw", arguments);
}

void check_failure(const Ran& ran, int status, const std::string& part) {
    check_failure_of("m4fw", ran, status, part);
}

}  // namespace

TEST_CASE("m4fw: a wrong command line is a usage error") {
    check_failure(m4fw(""), 2, "usage");
    check_failure(m4fw("frob"), 2, "no subcommand 'frob'");
    check_failure(m4fw("pack"), 2, "--out");
    check_failure(m4fw("pack --out y"), 1, "pack: needs --from, or --part");
    check_failure(m4fw("pack --from x --part a=b --out y"), 2, "--part");
    check_failure(m4fw("pack --part nothing --out y"), 1, "--part nothing: is not NAME=PATH");
    check_failure(m4fw("pack --part a= --out y"), 1, "--part a=: is not NAME=PATH");
    check_failure(m4fw("pack --part a=/nonexistent --out y"), 1, "/nonexistent: does not exist");
    check_failure(m4fw("pack --part a=x --tokenizer a --out y"), 1,
                  "--tokenizer a: is not NAME=PATH");
    check_failure(m4fw("pack --part a=x --tokenizer a=b --tokenizer a=c --out y"), 1,
                  "--tokenizer a=c: is for a part that has one already");
    check_failure(m4fw("pack --from x --out y --quantize q3"), 2, "q3");
    check_failure(m4fw("pack --from x --out y --rollback-index -1"), 2, "-1");
    check_failure(m4fw("verify"), 2, "folder");
    check_failure(m4fw("verify a b"), 2, "b");
    CHECK(m4fw("--help").status == 0);
    CHECK(m4fw("--version").status == 0);
}

TEST_CASE("m4fw: inspect, operators and verify of an image, and of a damaged one") {
    const TempFolder temp;
    const auto folder = temp / "image";
    write_tiny_model(make_tiny_model({}, 1), folder);
    const std::string digest =
        m4::firmware::to_hex(m4::firmware::MappedImage::open_folder(folder).image().digest());

    const auto shown =
        nlohmann::json::parse(m4fw("inspect --tensors --json " + folder.string()).out);
    CHECK(shown.at("digest") == digest);
    CHECK(shown.at("name") == "tiny");
    CHECK(shown.at("parts").at(0).at("programs").at(0).at("operators_used").at("linear") == 15);
    CHECK(shown.at("tensors").at(0).at("name") == "tokenizer");
    CHECK(shown.at("segments").at(0).at("bytes") == 2'097'152);
    const std::string table = m4fw("inspect --tensors " + folder.string()).out;
    CHECK(contains(table, digest));
    CHECK(contains(table, "layer.1.down.weight"));
    CHECK(contains(m4fw("operators").out, "rms_norm"));
    const auto used = nlohmann::json::parse(m4fw("operators --json " + folder.string()).out);
    CHECK(used.size() == 9);
    CHECK(used.at(0).at("uses") == 2);

    const Ran good = m4fw("verify " + folder.string());
    CHECK(good.status == 0);
    CHECK(contains(good.out, digest));
    CHECK(good.err.empty());  // no progress where there is no terminal

    auto shard = read_file(folder / "seg-000.m4w");
    shard.at(77) ^= std::byte{1};
    write_file(folder / "seg-000.m4w", shard);
    check_failure(m4fw("verify " + folder.string()), 1,
                  "seg-000.m4w: chunk 0 (bytes 0..2097151): digest does not match");
    const Ran json = m4fw("verify --json " + folder.string());
    CHECK(json.status == 1);
    CHECK(nlohmann::json::parse(json.out).at("reason") == "digest does not match");

    auto manifest = read_file(folder / "manifest.m4m");
    manifest.at(64) = std::byte{0x1b};
    write_file(folder / "manifest.m4m", manifest);
    check_failure(m4fw("inspect " + folder.string()), 1, "manifest.m4m: header.name (byte 64)");
    check_failure(m4fw("operators " + (temp / "absent").string()), 1, "absent: cannot open");
}

TEST_CASE("m4fw: synth makes vision transformers of known sizes, the same each time") {
    const TempFolder temp;
    const auto made = [&](const std::string& arguments) {
        const std::string out = (temp / "image").string();
        const Ran ran = m4fw("synth --force --out " + out + " " + arguments);
        CAPTURE(ran.err);
        REQUIRE(ran.status == 0);
        CHECK(m4fw("verify " + out).status == 0);
        return nlohmann::json::parse(m4fw("inspect --tensors --json " + out).out);
    };
    const auto small = made("--like vit-s --quantize q8");
    const auto& part = small.at("parts").at(0);
    CHECK(part.at("name") == "image");
    CHECK(part.at("kind") == "encoder");
    CHECK(part.at("architecture") == "vit");
    CHECK(part.at("parameters") == 22'050'664);  // as published with its 1000 labels
    const auto& used = part.at("programs").at(0).at("operators_used");
    CHECK(used.at("self_attention") == 12);
    CHECK(used.at("linear") == 12 * 6 + 2);
    CHECK(made("--like vit-s --quantize q8").at("digest") == small.at("digest"));
    CHECK(made("--like vit-s --quantize q8 --seed 2").at("digest") != small.at("digest"));

    const auto tiny = made("--like vit-b --dim 64 --layers 1 --ffn 32 --name eye");
    CHECK(tiny.at("name") == "eye");
    CHECK(tiny.at("parts").at(0).at("programs").at(0).at("operators_used").at("linear") == 8);
    bool found = false;
    for (const auto& tensor : tiny.at("tensors")) {
        found = found || (tensor.at("name") == "blocks.0.mlp.fc1.weight" &&
                          tensor.at("shape") == nlohmann::json({32, 64}));
    }
    CHECK(found);
}

TEST_CASE("m4fw: synth refuses what the model has not") {
    const TempFolder temp;
    const std::string start = "synth --out " + (temp / "image").string() + " --like ";
    check_failure(m4fw(start + "vit-x"), 1, "--like 'vit-x': is not one of 15m, 134m");
    check_failure(m4fw(start + "vit-s --context 8"), 1, "--context: is nothing that vit-s has");
    check_failure(m4fw(start + "vit-s --tied"), 1, "--tied: is nothing that vit-s has");
    check_failure(m4fw(start + "vit-b --dim 100"), 1, "whole heads of 64");
    CHECK(!std::filesystem::exists(temp / "image"));
}

TEST_CASE("m4fw: standard output that cannot be written is a failure") {
    const std::string command = build_root() + "/bin/m4fw operators >/dev/full 2>/dev/null";
    CHECK(WEXITSTATUS(std::system(command.c_str())) == 1);
}

TEST_CASE("m4fw: every packing of one checkpoint has one source digest") {
    const std::string data = shared_data();
    if (data.empty()) {
        M4_SKIP("needs the reference data");
    }
    const TempFolder temp;
    std::string source_digest;
    for (const char* from : {"stories260K.f32.gguf", "stories260K.f16.gguf", "hf"}) {
        for (const char* stored : {"f32", "f16"}) {
            const auto out = (temp / "image").string();
            const Ran packed = m4fw("pack --json --force --from " + data + "/stories260K/" + from +
                                    " --out " + out + " --quantize " + stored);
            CAPTURE(packed.err);
            REQUIRE(packed.status == 0);
            const auto shown = nlohmann::json::parse(m4fw("inspect --json " + out).out);
            CHECK(shown.at("digest") == nlohmann::json::parse(packed.out).at("digest"));
            const std::string digest = shown.at("parts").at(0).at("source_digest");
            CHECK((source_digest.empty() || source_digest == digest));
            source_digest = digest;
            CHECK(m4fw("verify " + out).status == 0);
        }
    }
    // One image of several parts, each of the digest that it has alone.
    const std::string hf = "backbone=" + data + "/stories260K/hf";
    const std::string motion = "motion=" + data + "/limu-bert/motion.safetensors";
    const std::string senses = "my=" + data + "/imagebind-tiny/imagebind-tiny.safetensors";
    const auto both = (temp / "both").string();
    const Ran packed =
        m4fw("pack --part " + hf + " --part " + motion + " --part " + senses + " --out " + both);
    CAPTURE(packed.err);
    REQUIRE(packed.status == 0);
    const auto parts = nlohmann::json::parse(m4fw("inspect --json " + both).out).at("parts");
    REQUIRE(parts.size() == 6);
    CHECK(parts.at(0).at("source_digest") == source_digest);
    CHECK(parts.at(0).at("kind") == "backbone");
    CHECK(parts.at(1).at("name") == "motion");
    CHECK(parts.at(1).at("kind") == "encoder");
    CHECK(parts.at(2).at("name") == "my-image");
    CHECK(parts.at(5).at("name") == "my-imu");
    // 120 rows: into 72 columns, then four times six matrices and attention.
    CHECK(parts.at(1).at("programs").at(0).at("multiply_adds") ==
          120 * 6 * 72 + 4 * (120 * (4 * 72 * 72 + 2 * 72 * 144) + 2 * 120 * 120 * 72));
    // What apps must know of them.
    CHECK(packed.out.find("part my-text has no tokenizer: it takes token ids only") !=
          std::string::npos);
    CHECK(parts.at(1).at("recipe").at("kind") == "motion");
    CHECK(parts.at(2).at("recipe").at("short_side") == 224);
    CHECK(parts.at(2).at("space") == "my");
    CHECK(parts.at(3).at("name") == "my-text");
    CHECK(parts.at(3).at("recipe") == nullptr);
    const std::string merges = data + "/tokenizers/clip_bpe_simple_vocab_16e6.txt.gz";
    const Ran with = m4fw("pack --json --part " + senses + " --tokenizer my=" + merges + " --out " +
                          (temp / "with").string());
    REQUIRE(with.status == 0);
    CHECK(nlohmann::json::parse(with.out).at("notes").empty());
    const std::string shown = m4fw("inspect " + (temp / "with").string()).out;
    CAPTURE(shown);
    for (const char* line : {"  recipe         text, padded by token 0\n",
                             "49,408 tokens, with a tokenizer\n", "  space          my\n",
                             "  recipe         image, 224 x 224 RGB of the short side 224 "}) {
        CAPTURE(std::string(line));
        CHECK(shown.find(line) != std::string::npos);
    }
    check_failure(m4fw("pack --part " + motion + " --tokenizer motion=" + merges + " --out " +
                       (temp / "new").string()),
                  1, "--tokenizer motion=" + merges + ": no encoder of texts has this name");
    check_failure(m4fw("pack --part a=" + data + "/stories260K/hf --part " + motion + " --part " +
                       motion + " --out " + (temp / "new").string()),
                  1, "part motion: a second part of this name");
    check_failure(m4fw("pack --from /nonexistent --out " + (temp / "new").string()), 1,
                  "/nonexistent");
    CHECK_FALSE(std::filesystem::exists(temp / "new"));
}
