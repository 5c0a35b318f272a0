// SPDX-License-Identifier: MIT
// m4fw: pack, extract, sign, inspect and verify firmware images. See m4fw.1.
#include <CLI/CLI.hpp>
#include <iostream>

#include "commands.hpp"
#include "lib/error.hpp"

namespace {

using namespace m4::tools;

constexpr int kBadInput = 1;
constexpr int kUsage = 2;

struct Options {
    PackOptions pack;
    SynthOptions synth;
    ExtractOptions extract;
    InspectOptions inspect;
    VerifyOptions verify;
    OperatorsOptions operators;
    KeygenOptions keygen;
    SignOptions sign;
};

/// One line whatever a checkpoint's names hold.
std::string one_line(std::string text) {
    for (char& ch : text) {
        const auto byte = static_cast<unsigned char>(ch);
        ch = byte < 0x20 || byte == 0x7f ? '?' : ch;
    }
    return text;
}

int fail(const std::string& text) {
    std::cerr << "m4fw: " << one_line(text) << '\n';
    return kBadInput;
}

void add_pack(CLI::App& app, PackOptions& options) {
    CLI::App* command = app.add_subcommand("pack", "Make an image of a checkpoint");
    CLI::Option* from = command->add_option(
        "--from", options.from,
        "a .gguf file, a Hugging Face folder or an encoder's .safetensors file");
    CLI::Option* parts = command->add_option(
        "--part", options.parts, "NAME=PATH: one of several such that make one image; repeatable");
    from->excludes(parts);
    command->add_option("--tokenizer", options.tokenizers,
                        "NAME=PATH: a CLIP tokeniser for the texts of part NAME; repeatable");
    command->add_option("--space", options.spaces,
                        "NAME=SPACE: whose embeddings projector NAME takes; repeatable");
    command->add_option("--out", options.out, "the image folder to write")->required();
    command
        ->add_option("--quantize", options.quantize,
                     "stored type of matrices: f32, f16, q8 or q4; default auto: as the checkpoint "
                     "has them, full floats as f16")
        ->check(CLI::IsMember({"auto", "f32", "f16", "q8", "q4"}));
    command->add_option("--name", options.name,
                        "image name, default backbone: the node that serves it");
    command->add_option("--version", options.version, "image version, default 1");
    command
        ->add_option("--rollback-index", options.rollback_index,
                     "a reader may refuse an image below one it has seen")
        ->check(CLI::NonNegativeNumber);
    command->add_flag("--force", options.force, "replace the image that --out holds");
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { pack(options); });
}

void add_synth(CLI::App& app, SynthOptions& options) {
    CLI::App* command =
        app.add_subcommand("synth", "Make an image of random weights, to try sizes and speed");
    command->add_option("--out", options.out, "the image folder to write")->required();
    command->add_option("--like", options.like,
                        "sizes of a known model: " + synth_names() + "; default 15m");
    command->add_option("--dim", options.dim, "width");
    command->add_option("--layers", options.layers, "layers");
    command->add_option("--heads", options.heads, "attention heads");
    command->add_option("--kv-heads", options.kv_heads, "key and value heads");
    command->add_option("--head-dim", options.head_dim, "width of a head");
    command->add_option("--ffn", options.ffn, "width of the feed-forward part");
    command->add_option("--vocabulary", options.vocabulary, "tokens, at least 259");
    command->add_option("--context", options.context, "positions");
    command->add_flag("--tied", options.tied, "the output matrix is the embedding");
    command->add_option("--seed", options.seed, "of the weights, default 1");
    command->add_option("--quantize", options.quantize, "stored type of matrices, default f16")
        ->check(CLI::IsMember({"f32", "f16", "q8", "q4"}));
    command->add_option("--name", options.name, "image name, default backbone");
    command->add_option("--version", options.version, "image version, default 1");
    command->add_flag("--force", options.force, "replace the image that --out holds");
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { synth(options); });
}

void add_extract(CLI::App& app, ExtractOptions& options) {
    CLI::App* command = app.add_subcommand("extract", "Write an image's model as a GGUF file");
    command->add_option("folder", options.folder, "the image folder")->required();
    command->add_option("--gguf", options.gguf, "the file to write")->required();
    command->add_flag("--force", options.force, "replace the file that is there");
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { extract(options); });
}

void add_inspect(CLI::App& app, InspectOptions& options) {
    CLI::App* command = app.add_subcommand("inspect", "Show what an image holds");
    command->add_option("folder", options.folder, "the image folder")->required();
    command->add_flag("--tensors", options.tensors, "list the tensors too");
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { inspect(options); });
}

void add_verify(CLI::App& app, VerifyOptions& options) {
    CLI::App* command = app.add_subcommand("verify", "Check every byte of an image");
    command->add_option("folder", options.folder, "the image folder")->required();
    command->add_option("--cert", options.certificates,
                        "a certificate that may have signed it; repeat for several");
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { verify(options); });
}

void add_operators(CLI::App& app, OperatorsOptions& options) {
    CLI::App* command = app.add_subcommand("operators", "List operators: all, or an image's");
    command->add_option("folder", options.folder, "the image folder");
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { operators(options); });
}

void add_keygen(CLI::App& app, KeygenOptions& options) {
    CLI::App* command = app.add_subcommand("keygen", "Make a signing key and its certificate");
    command->add_option("--out", options.folder, "where m4.key and m4.crt go")->required();
    command->add_option("--common-name", options.common_name,
                        "whom the certificate names, default M4 development");
    command->add_option("--days", options.days, "days it is valid, default 365");
    command->add_option("--bits", options.bits, "of RSA: 3072 (default) or 4096")
        ->check(CLI::IsMember({3072, 4096}));
    command->add_flag("--force", options.force, "replace a key that is there");
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { keygen(options); });
}

void add_sign(CLI::App& app, SignOptions& options) {
    CLI::App* command = app.add_subcommand("sign", "Sign an image");
    command->add_option("folder", options.folder, "the image folder")->required();
    command->add_option("--key", options.key, "the private key, PEM")->required();
    command->add_option("--cert", options.certificate, "its certificate, PEM or DER")->required();
    command->add_flag("--json", options.json, "result as JSON");
    command->callback([&options] { sign(options); });
}

int run(int argc, char** argv) {
    CLI::App app("Pack, extract, sign, inspect and verify M4 firmware images", "m4fw");
    Options options;
    app.set_version_flag("--version", M4_VERSION);
    app.require_subcommand(1);
    add_pack(app, options.pack);
    add_synth(app, options.synth);
    add_extract(app, options.extract);
    add_inspect(app, options.inspect);
    add_verify(app, options.verify);
    add_operators(app, options.operators);
    add_keygen(app, options.keygen);
    add_sign(app, options.sign);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
            app.exit(error);  // --help, --version
        } else {
            const bool named = app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-';
            const std::string text =
                named ? "no subcommand '" + std::string(argv[1]) + "'" : error.what();
            std::cerr << "m4fw: usage: " << one_line(text) << "; see m4fw --help\n";
            return kUsage;
        }
    }
    std::cout.flush();
    return std::cout.good() ? 0 : fail("standard output: cannot write");
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const m4::firmware::Error& error) {
        std::cout.flush();
        return fail(error.what());
    } catch (const std::bad_alloc&) {
        return fail("memory: exhausted");
    } catch (const std::exception& error) {
        return fail(std::string("internal: ") + error.what());
    }
}
