// SPDX-License-Identifier: MIT
// m4ctl firmware: which image is served, and whether a folder holds the same.
#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "commands.hpp"
#include "print.hpp"

namespace m4ctl {

namespace {

// docs/image-format.md: a manifest is at most this large and ends with the
// SHA-256 of all its bytes before that.
constexpr std::size_t kManifestMax = 2UL * 1024 * 1024;
constexpr std::size_t kDigestBytes = 32;
constexpr char kManifestName[] = "manifest.m4m";
constexpr char kMagic[] = "M4IMG\r\n\x1a";

nlohmann::json to_json(const ModelInfo& m) {
    return {
        {"name", m.name},
        {"version", m.version},
        {"architecture", m.architecture},
        {"digest", m.digest},
        {"root", m.root},
        {"source_digest", m.source_digest},
        {"source", m.source},
        {"rollback_index", m.rollback_index},
        {"parameters", m.parameters},
        {"payload_bytes", m.payload_bytes},
        {"context_length", m.context_length},
        {"vocabulary", m.vocabulary},
        {"bos_id", m.bos_id},
        {"eos_id", m.eos_id},
    };
}

std::string id_text(int32_t id) {
    return id < 0 ? "none" : std::to_string(id);
}

const char* source_words(const ModelInfo& m) {
    return std::strcmp(m.source, "device") == 0 ? "device: verified and pinned by the kernel"
                                                : "folder: verified by m4d at its start";
}

int show(const Global& global) {
    const ModelInfo m = model_info(connect(global));
    if (global.json) {
        print_json(to_json(m));
        return kExitOk;
    }
    print_pairs({
        {"name", m.name},
        {"version", m.version},
        {"architecture", m.architecture},
        {"digest", m.digest},
        {"root", m.root},
        {"source digest", m.source_digest},
        {"source", source_words(m)},
        {"rollback", std::to_string(m.rollback_index)},
        {"parameters", count_text(m.parameters)},
        {"payload", size_text(m.payload_bytes)},
        {"context", std::to_string(m.context_length) + " tokens"},
        {"vocabulary", std::to_string(m.vocabulary)},
        {"BOS, EOS", id_text(m.bos_id) + ", " + id_text(m.eos_id)},
    });
    return kExitOk;
}

std::vector<unsigned char> read_manifest(const std::string& path) {
    const auto failure = [&](const char* words) {
        return Failure(kExitFailed, path + ": " + words);
    };
    // Not blocking: someone may have put a FIFO there.
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        throw system_failure(path);
    }
    const std::unique_ptr<FILE, int (*)(FILE*)> file(::fdopen(fd, "rb"), &std::fclose);
    struct stat info = {};
    if (file == nullptr || ::fstat(fd, &info) != 0) {
        throw system_failure(path);
    }
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (!S_ISREG(info.st_mode) || size <= kDigestBytes || size > kManifestMax) {
        throw failure("not a manifest");
    }
    std::vector<unsigned char> bytes(size);
    if (std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) {
        throw failure("cannot be read whole");
    }
    if (std::memcmp(bytes.data(), kMagic, sizeof kMagic - 1) != 0) {
        throw failure("not a manifest");
    }
    return bytes;
}

std::string hex(const unsigned char* bytes, std::size_t count) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
        text += kDigits[bytes[i] >> 4U];
        text += kDigits[bytes[i] & 15U];
    }
    return text;
}

std::string sha256(const unsigned char* bytes, std::size_t count) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned length = 0;
    if (EVP_Digest(bytes, count, digest.data(), &length, EVP_sha256(), nullptr) != 1) {
        throw Failure(kExitFailed, "libcrypto has no SHA-256");
    }
    return hex(digest.data(), length);
}

/// What was looked at, told with the verdict: a check nobody made must not be
/// taken for one.
struct Verdict {
    std::string served;
    std::string folder;         // empty: none was given
    std::string folder_digest;  // computed
    std::string trailer;        // stored
    bool good = true;
    std::vector<std::string> checked;
    std::vector<std::string> not_checked;
};

Verdict compare(const ModelInfo& m, const std::string& folder) {
    Verdict verdict;
    verdict.served = m.digest;
    if (folder.empty()) {
        verdict.not_checked.emplace_back(
            "anything on this side: name the image's folder to compare it");
    } else {
        const std::string path = (std::filesystem::path(folder) / kManifestName).string();
        const auto manifest = read_manifest(path);
        const std::size_t body = manifest.size() - kDigestBytes;
        verdict.folder = folder;
        verdict.folder_digest = sha256(manifest.data(), body);
        verdict.trailer = hex(manifest.data() + body, kDigestBytes);
        verdict.good =
            verdict.folder_digest == verdict.trailer && verdict.folder_digest == verdict.served;
        verdict.checked.emplace_back("the folder's manifest hashes to the digest at its end");
        verdict.checked.emplace_back("that digest is the one served");
    }
    verdict.not_checked.emplace_back(
        "the payload's bytes: m4fw verify reads a folder's, the kernel a device's as it loads");
    return verdict;
}

std::string joined(const std::vector<std::string>& parts) {
    std::string text;
    for (const std::string& part : parts) {
        text += (text.empty() ? "" : "; ") + part;
    }
    return text;
}

int verify(const Global& global, const std::string& folder) {
    const ModelInfo m = model_info(connect(global));
    const Verdict verdict = compare(m, folder);
    if (global.json) {
        nlohmann::json object = {
            {"served_digest", verdict.served},   {"source", m.source}, {"folder", nullptr},
            {"folder_digest", nullptr},          {"match", nullptr},   {"checked", verdict.checked},
            {"not_checked", verdict.not_checked}};
        if (!folder.empty()) {
            object["folder"] = folder;
            object["folder_digest"] = verdict.folder_digest;
            object["match"] = verdict.good;
        }
        print_json(object);
    } else {
        std::vector<std::pair<std::string, std::string>> pairs = {{"served digest", verdict.served},
                                                                  {"source", source_words(m)}};
        if (!folder.empty()) {
            pairs.emplace_back("folder digest", verdict.folder_digest);
            pairs.emplace_back("checked", joined(verdict.checked));
        }
        pairs.emplace_back("not checked", joined(verdict.not_checked));
        print_pairs(pairs);
    }
    if (!verdict.good) {
        flush_output();
        throw Failure(kExitFailed,
                      verdict.folder_digest != verdict.trailer
                          ? folder + ": the manifest does not hash to the digest at its end"
                          : folder + ": is not the image served");
    }
    return kExitOk;
}

}  // namespace

void add_firmware(CLI::App& app, const Global& global, Action& action) {
    CLI::App* command = app.add_subcommand("firmware", "The image that is served");
    command->require_subcommand(1);
    command->fallthrough();

    command->add_subcommand("show", "Identity and size of the image")->callback([&global, &action] {
        action = [&global] { return show(global); };
    });

    CLI::App* check = command->add_subcommand("verify", "Compare a folder with what is served");
    auto folder = std::make_shared<std::string>();
    check->add_option("dir", *folder, "The image's folder")->type_name("DIR");
    check->callback([&global, &action, folder] {
        action = [&global, folder] { return verify(global, *folder); };
    });
}

}  // namespace m4ctl
