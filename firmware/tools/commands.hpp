// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

/// The subcommands of m4fw. Each writes its result to standard output and
/// throws firmware::Error where it fails; main.cpp turns that into one line
/// and an exit code.
namespace m4::tools {

struct PackOptions {
    std::filesystem::path from;
    std::vector<std::string> parts;       ///< NAME=PATH, several checkpoints; without `from`
    std::vector<std::string> tokenizers;  ///< NAME=PATH, of a part above, or a text part's name
    std::vector<std::string> spaces;      ///< NAME=SPACE, of a projector
    std::filesystem::path out;
    std::string quantize = "auto";
    std::string name = "backbone";  ///< of the node that will serve it
    std::string version = "1";
    std::uint64_t rollback_index = 0;
    bool force = false;
    bool json = false;
};

/// Sizes of 0 are those of `like`.
struct SynthOptions {
    std::filesystem::path out;
    std::string like = "15m";
    std::uint32_t dim = 0;
    std::uint32_t layers = 0;
    std::uint32_t heads = 0;
    std::uint32_t kv_heads = 0;
    std::uint32_t head_dim = 0;
    std::uint32_t ffn = 0;
    std::uint32_t vocabulary = 0;
    std::uint32_t context = 0;
    bool tied = false;
    std::uint64_t seed = 1;
    std::string quantize = "f16";
    std::string name = "backbone";
    std::string version = "1";
    bool force = false;
    bool json = false;
};
/// The names `like` knows, for the help.
[[nodiscard]] std::string synth_names();

struct ExtractOptions {
    std::filesystem::path folder;
    std::filesystem::path gguf;
    bool force = false;
    bool json = false;
};

struct InspectOptions {
    std::filesystem::path folder;
    bool tensors = false;
    bool json = false;
};

struct VerifyOptions {
    std::filesystem::path folder;
    std::vector<std::string> certificates;  ///< files; empty: the author is not checked
    bool json = false;
};

struct OperatorsOptions {
    std::filesystem::path folder;  ///< empty: the whole set
    bool json = false;
};

struct KeygenOptions {
    std::filesystem::path folder;
    std::string common_name = "M4 development";
    int days = 365;
    int bits = 3072;
    bool force = false;
    bool json = false;
};

struct SignOptions {
    std::filesystem::path folder;
    std::string key;
    std::string certificate;
    bool json = false;
};

void keygen(const KeygenOptions& options);
void sign(const SignOptions& options);
void pack(const PackOptions& options);
void synth(const SynthOptions& options);
void extract(const ExtractOptions& options);
void inspect(const InspectOptions& options);
void verify(const VerifyOptions& options);
void operators(const OperatorsOptions& options);

}  // namespace m4::tools
