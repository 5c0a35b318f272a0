// SPDX-License-Identifier: MIT
// m4ctl firmware verify: does a folder hold what is served; do the kernel's
// pages still hash to what was signed, and are they what m4d says it serves.
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

#include "firmware.hpp"
#include "lib/signature.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4ctl {

namespace {

// docs/image-format.md: a manifest is at most this large and ends with the
// SHA-256 of all its bytes before that.
constexpr std::size_t kManifestMax = 2UL * 1024 * 1024;
constexpr std::size_t kDigestBytes = 32;
constexpr char kManifestName[] = "manifest.m4m";
constexpr char kMagic[] = "M4IMG\r\n\x1a";

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
    std::string author;         // whom the folder's signature names; empty: none
    bool good = true;
    std::vector<std::string> checked;
    std::vector<std::string> not_checked;
};

Verdict compare(const ModelInfo& m, const std::string& folder) {
    Verdict verdict;
    const std::string path = (std::filesystem::path(folder) / kManifestName).string();
    const auto manifest = read_manifest(path);
    const std::size_t body = manifest.size() - kDigestBytes;
    verdict.served = m.digest;
    verdict.folder = folder;
    verdict.folder_digest = sha256(manifest.data(), body);
    verdict.trailer = hex(manifest.data() + body, kDigestBytes);
    verdict.good =
        verdict.folder_digest == verdict.trailer && verdict.folder_digest == verdict.served;
    verdict.checked.emplace_back("the folder's manifest hashes to the digest at its end");
    verdict.checked.emplace_back("that digest is the one served");
    const auto signature = m4::firmware::read_signature(folder);
    if (!signature.empty()) {
        verdict.author = m4::firmware::Signature::parse(signature, path + ".p7s").author();
        verdict.not_checked.emplace_back("who signed it: m4fw verify --cert, and the kernel");
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

int verify_folder(const Global& global, const std::string& folder) {
    const ModelInfo m = model_info(connect(global));
    const Verdict verdict = compare(m, folder);
    if (global.json) {
        nlohmann::json object = {{"served_digest", verdict.served},
                                 {"source", m.source},
                                 {"folder", folder},
                                 {"folder_digest", verdict.folder_digest},
                                 {"match", verdict.good},
                                 {"signature_names", nullptr},
                                 {"checked", verdict.checked},
                                 {"not_checked", verdict.not_checked}};
        if (!verdict.author.empty()) {
            object["signature_names"] = verdict.author;
        }
        print_json(object);
    } else {
        print_pairs({{"served digest", verdict.served},
                     {"source", source_words(m)},
                     {"folder digest", verdict.folder_digest},
                     {"signature", verdict.author.empty() ? "none" : "names " + verdict.author},
                     {"checked", joined(verdict.checked)},
                     {"not checked", joined(verdict.not_checked)}});
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

/// Why the pass does not vouch for what m4d serves; empty: it does.
std::string fault_of(const KernelImage::Scrubbed& pass, const std::string& served) {
    if (pass.errors > 0) {
        return "the kernel found " + std::to_string(pass.errors) +
               " chunks altered and took the image back";
    }
    if (pass.passes == 0) {
        return "the pass did not end: the image's state is " + pass.state;
    }
    if (pass.digest != served) {
        return "m4d serves " + served + ", the kernel holds " +
               (pass.digest.empty() ? "nothing" : pass.digest);
    }
    return "";
}

int verify_kernel(const Global& global, const ImagePlace& place, bool named) {
    const ModelInfo m = model_info(connect(global));
    if (std::strcmp(m.source, "device") != 0) {
        throw Failure(
            kExitFailed,
            "m4d serves a folder, and no kernel is behind it that could hash it again: "
            "name the folder (m4ctl firmware verify DIR; m4fw verify DIR for every byte)");
    }
    const KernelImage kernel(place.sysfs, named ? place.name : m.name);
    KernelImage::Scrubbed pass;
    {
        ProgressLine progress("the kernel hashes");
        pass =
            kernel.scrub({[&](unsigned percent) { progress.update(percent); }, global.timeout_s});
    }
    const std::string fault = fault_of(pass, m.digest);
    if (global.json) {
        print_json({{"served_digest", m.digest},
                    {"source", m.source},
                    {"kernel_digest", pass.digest},
                    {"match", pass.digest == m.digest},
                    {"passes", pass.passes},
                    {"errors", pass.errors},
                    {"state", pass.state}});
    } else {
        print_pairs({{"served digest", m.digest},
                     {"kernel digest", pass.digest.empty() ? "none" : pass.digest},
                     {"passes", std::to_string(pass.passes)},
                     {"altered", std::to_string(pass.errors) + " chunks"},
                     {"state", pass.state},
                     {"signer", m.signer}});
    }
    if (!fault.empty()) {
        flush_output();
        throw Failure(kExitFailed, fault);
    }
    return kExitOk;
}

}  // namespace

void add_firmware_verify(CLI::App* firmware, const Global& global, Action& action) {
    CLI::App* command = firmware->add_subcommand(
        "verify", "Have the kernel hash what is served again; or compare a folder with it");
    auto folder = std::make_shared<std::string>();
    command->add_option("dir", *folder, "An image's folder, to compare")->type_name("DIR");
    const auto place = add_place(command, false);
    command->callback([&global, &action, folder, place, command] {
        const bool named = command->count("--name") > 0;
        action = [&global, folder, place, named] {
            return folder->empty() ? verify_kernel(global, *place, named)
                                   : verify_folder(global, *folder);
        };
    });
}

}  // namespace m4ctl
