// SPDX-License-Identifier: MIT
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "lib/signature.hpp"
#include "lib/small_file.hpp"
#include "print.hpp"

namespace m4::tools {

void sign(const SignOptions& options) {
    const auto certificate = firmware::Certificate::read(options.certificate);
    const auto key = firmware::SigningKey::read(options.key);
    warn_if_expired(certificate);
    const LoadedManifest loaded = load_manifest(options.folder);
    const std::vector<std::byte> signature = firmware::sign(loaded.bytes, key, certificate);
    firmware::write_small_file(options.folder.string(), firmware::kSignatureName, signature, 0644,
                               true);
    const std::string path = (options.folder / firmware::kSignatureName).string();
    const std::string digest = firmware::to_hex(loaded.image.digest());
    if (options.json) {
        std::cout << nlohmann::ordered_json{{"file", path},
                                            {"bytes", signature.size()},
                                            {"digest", digest},
                                            {"signer", certificate.subject()},
                                            {"key_id", certificate.key_id()}}
                         .dump(2)
                  << '\n';
    } else {
        std::cout << path << ": " << certificate.subject() << " signed " << loaded.image.name()
                  << ' ' << loaded.image.version() << ", digest " << digest << '\n';
    }
}

}  // namespace m4::tools
