// SPDX-License-Identifier: MIT
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "commands.hpp"
#include "lib/error.hpp"
#include "lib/image.hpp"
#include "lib/signature.hpp"
#include "print.hpp"
#include "progress.hpp"

namespace m4::tools {

namespace {

using nlohmann::ordered_json;

/// What is known of an image's author.
struct Authorship {
    std::optional<firmware::Signature> signature;
    std::optional<firmware::Certificate> signer;  ///< checked against
};

std::string signature_place(const VerifyOptions& options) {
    return (options.folder / firmware::kSignatureName).string();
}

Authorship check_author(const VerifyOptions& options, const LoadedManifest& loaded) {
    std::vector<firmware::Certificate> certificates;
    for (const std::string& path : options.certificates) {
        certificates.push_back(firmware::Certificate::read(path));
    }
    Authorship found;
    const std::vector<std::byte> der = firmware::read_signature(options.folder.string());
    if (der.empty()) {
        if (!certificates.empty()) {
            throw firmware::Error(signature_place(options), "is absent: nobody signed this image");
        }
        return found;
    }
    found.signature = firmware::Signature::parse(der, signature_place(options));
    if (!certificates.empty()) {
        found.signer = found.signature->verify(loaded.bytes, certificates);
        warn_if_expired(*found.signer);
    }
    return found;
}

std::string words(const Authorship& author) {
    if (author.signer) {
        return "signed by " + author.signer->subject() + " (" + author.signer->place() + ")";
    }
    if (author.signature) {
        return "a signature is there, its author was not checked (--cert); it names " +
               author.signature->author();
    }
    return "nobody signed it";
}

ordered_json to_json(const Authorship& author) {
    ordered_json object = {{"present", author.signature.has_value()},
                           {"checked", author.signer.has_value()}};
    if (author.signature) {
        object["author"] = author.signature->author();
    }
    if (author.signer) {
        object["signer"] = author.signer->subject();
        object["key_id"] = author.signer->key_id();
        object["certificate"] = author.signer->place();
        object["expired"] = author.signer->expired();
    }
    return object;
}

void verify_all(const VerifyOptions& options) {
    // The order of the kernel: who made it, then every byte.
    const LoadedManifest loaded = load_manifest(options.folder);
    const Authorship author = check_author(options, loaded);
    ProgressLine progress("checking");
    const auto mapped = firmware::MappedImage::open_folder(
        options.folder,
        [&](std::uint64_t done, std::uint64_t total) { progress.update(done, total); });
    const firmware::Image& image = mapped.image();
    if (image.digest() != loaded.image.digest()) {
        throw firmware::Error((options.folder / M4_IMAGE_MANIFEST_NAME).string(),
                              "changed while it was being checked");
    }
    const std::uint64_t bytes = image.manifest().manifest_bytes + image.payload_bytes();
    if (options.json) {
        std::cout << ordered_json{{"ok", true},
                                  {"name", std::string(image.name())},
                                  {"version", std::string(image.version())},
                                  {"digest", firmware::to_hex(image.digest())},
                                  {"bytes", bytes},
                                  {"signature", to_json(author)}}
                         .dump(2, ' ', false, ordered_json::error_handler_t::replace)
                  << '\n';
    } else {
        std::cout << options.folder.string() << ": good: " << image.name() << ' ' << image.version()
                  << ", " << count_text(bytes) << " bytes, digest "
                  << firmware::to_hex(image.digest()) << "; " << words(author) << '\n';
    }
}

}  // namespace

void verify(const VerifyOptions& options) {
    try {
        verify_all(options);
    } catch (const firmware::Error& error) {
        if (options.json) {
            const std::string text = error.what();
            std::cout << ordered_json{{"ok", false},
                                      {"place", error.place()},
                                      {"reason", text.substr(error.place().size() + 2)}}
                             .dump(2, ' ', false, ordered_json::error_handler_t::replace)
                      << '\n';
        }
        throw;
    }
}

}  // namespace m4::tools
